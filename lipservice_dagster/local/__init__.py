"""The embedded stack for one machine: PostgreSQL, the Parquet log store, demo logs and one supervisor."""
