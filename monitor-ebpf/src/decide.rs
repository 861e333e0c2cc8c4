//! Decisions of the probes on plain values, so that they can be tested without a kernel.
