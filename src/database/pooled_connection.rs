//! A connection of the pool.

use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use std::ops::{Deref, DerefMut};

/// A connection of a [`Pool`](crate::Pool). It returns to the pool when it is dropped.
///
/// A connection that a cancelled future left inside a transaction is closed at once instead, so
/// that the server rolls the transaction back and releases its locks.
pub struct PooledConnection(Option<Object<AsyncPgConnection>>);

impl PooledConnection {
    pub(super) fn new(object: Object<AsyncPgConnection>) -> Self {
        Self(Some(object))
    }
}

impl Deref for PooledConnection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        match &self.0 {
            Some(object) => object,
            None => unreachable!("the connection is there until it is dropped"),
        }
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        match &mut self.0 {
            Some(object) => object,
            None => unreachable!("the connection is there until it is dropped"),
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(mut object) = self.0.take() else { return };
        let conn: &mut AsyncPgConnection = &mut object;
        if AnsiTransactionManager::is_broken_transaction_manager(conn) {
            drop(Object::take(object));
        }
    }
}
