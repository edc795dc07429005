"""Where frames come from: documents, files, simulated detectors."""
