"""Floor 6: for people and scripts. Never imports `ftx.daemon`."""
