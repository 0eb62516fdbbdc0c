//! One-line stories.

use super::*;
