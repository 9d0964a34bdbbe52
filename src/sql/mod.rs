//! What Diesel lacks or we add to it, each once.

pub(crate) mod clock;
pub(crate) mod functions;
pub(crate) mod kept;
pub(crate) mod limit_one;
pub(crate) mod literals;
pub(crate) mod locks;
pub(crate) mod page;
pub(crate) mod policies;
pub(crate) mod run;
pub(crate) mod with;

#[cfg(test)]
mod tests {
    /// What no test can ask for, as `WITH`, a new release may have.
    #[test]
    fn diesel_is_the_release_that_was_looked_through() {
        let lock = include_str!("../../Cargo.lock");
        for (name, release) in [("diesel", "2.3."), ("diesel-async", "0.9.")] {
            let entry = format!("name = \"{name}\"\nversion = \"{release}");
            assert!(lock.contains(&entry), "which links of src/sql has the new {name} settled?");
        }
    }
}
