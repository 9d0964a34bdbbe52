//! The URLs that managed providers hand out, and what becomes of each.

use crate::database::url;
use tokio_postgres::config::Host;

/// Each form, with the host that is connected to, or what is said instead.
const FORMS: &[(&str, &str, Result<&str, &str>)] = &[
    (
        "Amazon RDS",
        "postgresql://app:pw@db.abc123.eu-central-1.rds.amazonaws.com:5432/app?sslmode=require",
        Ok("db.abc123.eu-central-1.rds.amazonaws.com"),
    ),
    (
        "Amazon Aurora, writer and reader",
        "postgresql://app:pw@c.cluster-abc.eu-central-1.rds.amazonaws.com,c.cluster-ro-abc.eu-central-1.rds.amazonaws.com/app?target_session_attrs=prefer-standby&sslmode=require",
        Ok("c.cluster-abc.eu-central-1.rds.amazonaws.com"),
    ),
    (
        "Google Cloud SQL, its proxy's socket",
        "postgresql://app:pw@/app?host=/cloudsql/project:europe-west3:instance",
        Ok("/cloudsql/project:europe-west3:instance"),
    ),
    (
        "Google Cloud SQL, the socket as host",
        "postgres://app:pw@%2Fcloudsql%2Fproject%3Aeurope-west3%3Ainstance/app",
        Ok("/cloudsql/project:europe-west3:instance"),
    ),
    (
        "Azure, flexible server",
        "postgres://app:pw@server.postgres.database.azure.com/postgres?sslmode=require",
        Ok("server.postgres.database.azure.com"),
    ),
    (
        "Azure, single server",
        "postgres://app%40server:pw@server.postgres.database.azure.com:5432/postgres?sslmode=require",
        Ok("server.postgres.database.azure.com"),
    ),
    (
        "Azure, the user as an option",
        "postgres://server.postgres.database.azure.com/postgres?user=app@server&password=pw",
        Err("write %40 for each @"),
    ),
    (
        "Supabase, direct",
        "postgresql://postgres:pw@db.abcdefghijklmnop.supabase.co:5432/postgres",
        Ok("db.abcdefghijklmnop.supabase.co"),
    ),
    (
        "Supabase, its pooler in session mode",
        "postgres://postgres.abcdefgh:pw@aws-0-eu-central-1.pooler.supabase.com:5432/postgres?pooler=session",
        Ok("aws-0-eu-central-1.pooler.supabase.com"),
    ),
    (
        "Supabase, for Prisma",
        "postgres://postgres.abcdefgh:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true",
        Err("no parameter pgbouncer: correct it or leave it out"),
    ),
    (
        "Neon",
        "postgresql://app:pw@ep-cool-name-123456.eu-central-1.aws.neon.tech/app?sslmode=require&channel_binding=require",
        Ok("ep-cool-name-123456.eu-central-1.aws.neon.tech"),
    ),
    (
        "Neon, its pooler, for clients that don't tell the host",
        "postgresql://app:pw@ep-cool-name-123456-pooler.eu-central-1.aws.neon.tech/app?sslmode=require&options=endpoint%3Dep-cool-name-123456",
        Ok("ep-cool-name-123456-pooler.eu-central-1.aws.neon.tech"),
    ),
    (
        "Neon, by project",
        "postgresql://app:pw@ep-cool-name-123456.eu-central-1.aws.neon.tech/app?options=project%3Dep-cool-name-123456",
        Ok("ep-cool-name-123456.eu-central-1.aws.neon.tech"),
    ),
    (
        "Neon, by another host",
        "postgresql://app:pw@eu-central-1.aws.neon.tech/app?options=endpoint%3Dep-cool-name-123456",
        Err("write the host that begins with its id"),
    ),
    (
        "Heroku",
        "postgres://uabc:p0123@ec2-1-2-3-4.eu-west-1.compute.amazonaws.com:5432/d0abc",
        Ok("ec2-1-2-3-4.eu-west-1.compute.amazonaws.com"),
    ),
    (
        "Heroku, for Node",
        "postgres://uabc:p0123@ec2-1-2-3-4.eu-west-1.compute.amazonaws.com:5432/d0abc?sslmode=no-verify",
        Err("sslmode must be one of disable, prefer, require"),
    ),
    (
        "DigitalOcean",
        "postgresql://doadmin:AVNS_pw@db-do-user-1-0.b.db.ondigitalocean.com:25060/defaultdb?sslmode=require",
        Ok("db-do-user-1-0.b.db.ondigitalocean.com"),
    ),
    (
        "Render",
        "postgresql://app:pw@dpg-abc123-a.frankfurt-postgres.render.com/app",
        Ok("dpg-abc123-a.frankfurt-postgres.render.com"),
    ),
    ("Fly", "postgres://postgres:pw@app-db.flycast:5432/app?sslmode=disable", Ok("app-db.flycast")),
    (
        "Fly, nearest first",
        "postgres://postgres:pw@top2.nearest.of.app-db.internal:5432/app",
        Ok("top2.nearest.of.app-db.internal"),
    ),
    (
        "Crunchy Bridge",
        "postgres://application:pw@p.abc123.db.postgresbridge.com:5432/postgres?sslmode=require",
        Ok("p.abc123.db.postgresbridge.com"),
    ),
    (
        "Aiven",
        "postgres://avnadmin:AVNS_pw@pg-1-project.aivencloud.com:12691/defaultdb?sslmode=require",
        Ok("pg-1-project.aivencloud.com"),
    ),
    (
        "Timescale",
        "postgres://tsdbadmin:pw@abc123.def456.tsdb.cloud.timescale.com:31234/tsdb?sslmode=require",
        Ok("abc123.def456.tsdb.cloud.timescale.com"),
    ),
    (
        "Railway, public",
        "postgresql://postgres:pw@viaduct.proxy.rlwy.net:41234/railway",
        Ok("viaduct.proxy.rlwy.net"),
    ),
    (
        "Railway, private",
        "postgresql://postgres:pw@postgres.railway.internal:5432/railway",
        Ok("postgres.railway.internal"),
    ),
    (
        "CockroachDB, by host",
        "postgresql://app:pw@wild-fox-12.abc.cockroachlabs.cloud:26257/defaultdb?sslmode=prefer",
        Ok("wild-fox-12.abc.cockroachlabs.cloud"),
    ),
    (
        "CockroachDB, by cluster",
        "postgresql://app:pw@free-tier.gcp-us-central1.cockroachlabs.cloud:26257/defaultdb?options=--cluster%3Dwild-fox-12",
        Err("write CLUSTER.DATABASE for the database"),
    ),
    (
        "SQLAlchemy's",
        "postgresql+psycopg2://app:pw@db.example/app",
        Err("must begin with postgres:// or postgresql://"),
    ),
    (
        "JDBC's, with a schema",
        "postgresql://app:pw@db.example/app?currentSchema=app&ssl=true",
        Err("options=-c%20search_path%3DNAME"),
    ),
];

#[test]
fn each_form_is_taken_or_says_what_to_change() {
    for (provider, form, expected) in FORMS {
        match (url::parse(form), expected) {
            (Ok(parsed), Ok(host)) => {
                let first = match &parsed.hosts[0].host {
                    Host::Tcp(name) => name.clone(),
                    Host::Unix(directory) => directory.display().to_string(),
                };
                assert_eq!(first, *host, "{provider}");
                assert!(parsed.config.get_user().is_some(), "{provider}");
                assert!(parsed.config.get_password().is_some(), "{provider}");
                assert!(parsed.config.get_dbname().is_some(), "{provider}");
            }
            (Err(error), Err(reason)) => {
                let error = error.to_string();
                assert!(error.contains(reason) && !error.contains('\n'), "{provider}: {error}");
            }
            (Ok(_), Err(_)) => panic!("{provider}: the form was taken"),
            (Err(error), Ok(_)) => panic!("{provider}: {error}"),
        }
    }
}
