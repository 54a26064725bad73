"""The load test: shoppers and producers by locust (loadtest/locustfile.py), and thresholds that it must keep."""
