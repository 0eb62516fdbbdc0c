//! Level 0: values and algorithms that depend on nothing.
