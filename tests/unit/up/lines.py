"""Lines as the shoppers of a world print them."""

import json


def start(world: str = "shop", random: float = 0.2) -> str:
    return json.dumps({"event": "start", "world": world, "random": random, "shoppers": 100}) + "\n"


def tick(at: float, decisions: int, reward: float, event: str = "tick", **more: float) -> str:
    counts = {
        "sessions": 0,
        "requests_failed": 0,
        "feedback_accepted": 0,
        "versions": 0,
        "modes": {"learned": decisions},
    }
    return json.dumps({"event": event, "at": at, "decisions": decisions, "reward": reward, **counts, **more}) + "\n"
