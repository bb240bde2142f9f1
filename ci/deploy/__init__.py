"""Delivery: targets, routers, strategies and the rollout state machine."""
