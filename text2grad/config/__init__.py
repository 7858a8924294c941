"""The flags of every script: one frozen dataclass each, bounds checked, errors name the flag."""

from text2grad.config.annotation import AnnotateConfig, PrepareConfig
from text2grad.config.baselines import (
    DPOConfig,
    GRPOConfig,
    ReflectConfig,
    ScalarRewardConfig,
)
from text2grad.config.benchmarks import AlpacaEvalConfig, ArcConfig, MtBenchConfig
from text2grad.config.evaluation import (
    EvalPlusConfig,
    EvalPlusProblemsConfig,
    JudgeConfig,
    PassAtKConfig,
    PolicyInferConfig,
    PolicyMetricsConfig,
)
from text2grad.config.human import HumanAlignmentConfig, SheetConfig, SheetImportConfig
from text2grad.config.launch import launch, parse
from text2grad.config.noise import NoiseConfig
from text2grad.config.paper import PaperFiguresConfig, PaperRunConfig, PaperTablesConfig
from text2grad.config.policy import PolicyConfig, SFTConfig
from text2grad.config.reward_model import (
    MergeConfig,
    RewardInferConfig,
    RewardMetricsConfig,
    RewardTrainConfig,
)
from text2grad.config.server import ServerConfig
from text2grad.config.testbed import TestbedConfig
from text2grad.config.testing import TestCaseConfig

__all__ = [
    "AlpacaEvalConfig",
    "AnnotateConfig",
    "ArcConfig",
    "DPOConfig",
    "EvalPlusConfig",
    "EvalPlusProblemsConfig",
    "GRPOConfig",
    "HumanAlignmentConfig",
    "JudgeConfig",
    "MergeConfig",
    "MtBenchConfig",
    "NoiseConfig",
    "PaperFiguresConfig",
    "PaperRunConfig",
    "PaperTablesConfig",
    "PassAtKConfig",
    "PolicyConfig",
    "PolicyInferConfig",
    "PolicyMetricsConfig",
    "PrepareConfig",
    "ReflectConfig",
    "RewardInferConfig",
    "RewardMetricsConfig",
    "RewardTrainConfig",
    "SFTConfig",
    "ScalarRewardConfig",
    "ServerConfig",
    "SheetConfig",
    "SheetImportConfig",
    "TestCaseConfig",
    "TestbedConfig",
    "launch",
    "parse",
]
