//! What one connection is known to have of one document.
