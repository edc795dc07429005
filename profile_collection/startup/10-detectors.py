"""The three Eigers, simulated: names, keys, documents and files as at CHX."""

from chx_simulation import simulated_chx_eiger

eiger4m_single = simulated_chx_eiger("eiger4m_single", data_folder / "eiger4m")
eiger1m_single = simulated_chx_eiger("eiger1m_single", data_folder / "eiger1m")
eiger500K_single = simulated_chx_eiger("eiger500K_single", data_folder / "eiger500K")
