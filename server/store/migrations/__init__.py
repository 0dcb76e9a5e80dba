"""How a round store of an older version becomes one of this version; run by `server.store.migrate`."""
