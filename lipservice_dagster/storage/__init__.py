"""PostgreSQL: tables, migrations, the team-day IO manager, and the ledgers of services, runs and releases."""
