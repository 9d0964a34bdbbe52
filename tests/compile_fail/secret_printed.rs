//! A value that holds a key or a prompt is printed.

use model_experiments::routing::{RoutedExperiment, Served};
use model_experiments::secrecy::SecretString;
use model_experiments::values::{ApiKeyCipher, EncryptedApiKey, PromptCapture};

fn log(
    key: &SecretString,
    encrypted: &EncryptedApiKey,
    cipher: &ApiKeyCipher,
    served: &Served,
    routed: &RoutedExperiment,
    prompt: &PromptCapture<'_>,
) {
    println!("{key}");
    println!("{encrypted}");
    println!("{cipher}");
    println!("{served}");
    println!("{routed}");
    println!("{prompt}");
}

fn main() {}
