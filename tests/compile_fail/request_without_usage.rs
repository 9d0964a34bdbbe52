//! A request is inserted without its usage.

use model_experiments::recording::NewRequest;
use model_experiments::schema::model_experiment_request;

fn insert(request: &NewRequest) {
    let _ = diesel::insert_into(model_experiment_request::table).values(request);
}

fn main() {}
