//! Pgpool-II in front of a primary and a standby.

use std::net::TcpStream;
use std::path::Path;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::pgbouncer::runner;
use crate::process::Service;
use crate::support::fixtures::free_port;

/// A running Pgpool-II.
pub struct Pgpool {
    _service: Service,
    port: u16,
    database: String,
}

impl Pgpool {
    /// Starts one in front of the database of `primary` and `standby`, two URLs over sockets. With
    /// `load_balance_mode`, all that it takes for a read goes to the standby. Prints the reason
    /// where it isn't installed.
    pub fn start(primary: &str, standby: &str, load_balance_mode: &str) -> Option<Self> {
        let runner = runner("pgpool2-bookworm")?;
        let port = free_port();
        let mut configuration = format!(
            "listen_addresses = '127.0.0.1'\n\
             port = {port}\n\
             pcp_listen_addresses = ''\n\
             pid_file_name = 'pid'\n\
             num_init_children = 8\n\
             backend_clustering_mode = 'streaming_replication'\n\
             load_balance_mode = {load_balance_mode}\n\
             sr_check_user = 'postgres'\n"
        );
        for (node, (url, weight)) in [(primary, 0), (standby, 1)].into_iter().enumerate() {
            let server: Config = url.parse().unwrap();
            let [Host::Unix(directory)] = server.get_hosts() else { panic!("{url} isn't local") };
            configuration.push_str(&format!(
                "backend_hostname{node} = '{}'\n\
                 backend_port{node} = {}\n\
                 backend_weight{node} = {weight}\n\
                 backend_flag{node} = 'DISALLOW_TO_FAILOVER'\n",
                directory.display(),
                server.get_ports()[0],
            ));
        }
        let command = |directory: &Path| {
            let directory = directory.display();
            configuration.push_str(&format!(
                "unix_socket_directories = '{directory}'\n\
                 pcp_socket_dir = '{directory}'\n\
                 wd_ipc_socket_dir = '{directory}'\n\
                 logdir = '{directory}'\n\
                 work_dir = '{directory}'\n"
            ));
            std::fs::write(format!("{directory}/pgpool.conf"), &configuration)?;
            std::fs::write(format!("{directory}/pcp.conf"), "")?;
            let runner = runner.display().to_string();
            let arguments = ["pgpool", "-n", "-D", "-f", "pgpool.conf", "-F", "pcp.conf"];
            Ok([runner].into_iter().chain(arguments.map(str::to_owned)).collect())
        };
        let is_ready = |_: &Path| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let service = Service::start(command, is_ready).unwrap();
        let database = primary.parse::<Config>().unwrap().get_dbname().unwrap().to_owned();
        Some(Self { _service: service, port, database })
    }

    /// The URL of the database through it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, self.database)
    }
}
