"""Agents by name, those of `schemas.kinds.AGENTS`. A new one is a file here, a line below and a line there."""

from trainer.agents.agent import AgentFactory
from trainer.agents.ddpg import DdpgAgent
from trainer.agents.dqn import DqnAgent
from trainer.agents.dqn_att import DqnAttAgent
from trainer.agents.drn import DrnAgent
from trainer.agents.drr_att import DrrAttAgent
from trainer.agents.ppo import PpoAgent
from trainer.agents.reinforce import ReinforceAgent
from trainer.agents.sac import SacAgent
from trainer.agents.sac_discrete import SacDiscreteAgent
from trainer.agents.td3 import Td3Agent

AGENTS: dict[str, AgentFactory] = {
    "dqn": DqnAgent,
    "ddpg": DdpgAgent,
    "drn": DrnAgent,
    "dqn-att": DqnAttAgent,
    "drr-att": DrrAttAgent,
    "td3": Td3Agent,
    "sac": SacAgent,
    "sac-discrete": SacDiscreteAgent,
    "ppo": PpoAgent,
    "reinforce": ReinforceAgent,
}
