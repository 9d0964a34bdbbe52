//! A request is inserted without its usage.

use model_experiments::recording::NewRequest;
use model_experiments::schema::model_experiment_request as request;

fn insert(new: &NewRequest) {
    let _ = diesel::insert_into(request::table).values(new);
}

fn main() {}
