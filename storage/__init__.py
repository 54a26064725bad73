"""What the processes meet in: the event log (a port; SQL, and Kafka), the store, the catalogue, the policy registry."""
