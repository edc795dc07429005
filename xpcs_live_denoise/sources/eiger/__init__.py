"""The files of a DECTRIS Eiger: read, followed while they grow, joined with their documents."""
