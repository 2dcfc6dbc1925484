"""From what the user wishes to a plan: requests, contracts, routes."""
