"""Apache Kafka and PostgreSQL as one process each on a bare machine, to be started, frozen and killed at will."""
