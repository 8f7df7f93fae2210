-- Dagster's storage beside LipService's: two databases of one server.
CREATE DATABASE dagster;
