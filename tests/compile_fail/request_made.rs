//! A request is constructed that was not recorded with a usage.

use model_experiments::recording::Request;
use model_experiments::values::UsageId;

fn copy(request: Request) -> Request {
    Request { usage_id: UsageId::new(), ..request }
}

fn main() {}
