//! Every entry point that takes stored or foreign bytes.
