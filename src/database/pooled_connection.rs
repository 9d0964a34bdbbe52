//! A connection of the pool.

use deadpool::managed::Object;
use diesel_async::AsyncPgConnection;
use std::ops::{Deref, DerefMut};

use crate::database::check_in::check_in;
use crate::database::manager::Manager;

/// A connection of a [`Pool`](crate::Pool). It returns to the pool when it is dropped.
///
/// Settings, roles, locks and temporary objects don't reach its next user, as [`Pool`](crate::Pool)
/// describes.
pub struct PooledConnection(Option<Object<Manager>>);

impl PooledConnection {
    pub(super) fn new(object: Object<Manager>) -> Self {
        Self(Some(object))
    }
}

impl Deref for PooledConnection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        match &self.0 {
            Some(object) => &object.conn,
            None => unreachable!("the connection is there until it is dropped"),
        }
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        match &mut self.0 {
            Some(object) => &mut object.conn,
            None => unreachable!("the connection is there until it is dropped"),
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            check_in(object);
        }
    }
}
