"""The first line of a session, at once: what follows takes seconds to import and to start."""

print("Starting the XPCS profile: Tiled server, simulated Eigers, live analysis; some 10 s ...")
