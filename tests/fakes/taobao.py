"""Virtual Taobao with networks that are written down: customers whose clicks a test knows."""

import numpy as np

from simulators.virtualtb import NUM_USER_DIMS, NUM_WEIGHTS, Mlp, Networks, Variant, VirtualTaobao


def linear(bias: list[float], num_in: int) -> Mlp:
    """A network whose output is its bias, whatever it is given."""
    return Mlp({"0.weight": np.zeros((len(bias), num_in), np.float32), "0.bias": np.array(bias, np.float32)})


def world_of(click_logits: list[float], leaves_at: int = 5, variant: Variant = "native") -> VirtualTaobao:
    """Customers who click by these 11 logits, see index 4, and leave at that page."""
    generator = linear([0.0] * NUM_USER_DIMS, 128)
    leave = linear([1e4 * (page == leaves_at) for page in range(101)], NUM_USER_DIMS)
    action = linear(click_logits + [1e4 * (index == 4) for index in range(10)], NUM_USER_DIMS + 1 + NUM_WEIGHTS)
    return VirtualTaobao(Networks(generator, leave, action), variant)


FIVE = [-1e4] * 5 + [0.0] + [-1e4] * 5
ONE_OR_TWO = [-1e4, 0.0, 0.0] + [-1e4] * 8
