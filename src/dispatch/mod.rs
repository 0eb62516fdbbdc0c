//! Level 8: from a request's words to the function that runs it.

pub mod registry;
