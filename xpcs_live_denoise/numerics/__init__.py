"""The science: arrays in, arrays out; no clock, log, thread, file or torch."""
