"""Shops whose truth was written down: a test knows what is clicked and what satisfies."""

import numpy as np

from simulators.shop import Dials, Shop, Truth
from simulators.world import Floats


def shop_of(appeal: Floats, delight: Floats, dials: Dials | None = None) -> Shop:
    """A shop of few users and items: appeal and delight are [users, items]."""
    shop = Shop(0, dials or Dials())
    num_users, num_items = appeal.shape
    shop.__dict__["truth"] = Truth(np.zeros((num_users, 3), np.int64), np.zeros(num_items, np.int64), appeal, delight)
    return shop
