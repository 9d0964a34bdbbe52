//! The price of a request.

/// Microdollars per token of a prompt: three dollars per million tokens.
const INPUT_PRICE: i64 = 3;

/// Microdollars per token of an answer: fifteen dollars per million tokens.
const OUTPUT_PRICE: i64 = 15;

/// The cost of a request, in microdollars.
pub fn cost(input_tokens: u32, output_tokens: u32) -> i64 {
    i64::from(input_tokens) * INPUT_PRICE + i64::from(output_tokens) * OUTPUT_PRICE
}
