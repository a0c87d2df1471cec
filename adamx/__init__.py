"""The Adam family for JAX: gradient transformations that chain together.

Every name has one public path, `adamx.NAME`; `adamx.lab` compares optimizers on tasks,
`adamx.interop` takes over runs of Optax and PyTorch.
"""

# The protocol, and what to do with it.
from adamx._base import EmptyState as EmptyState
from adamx._base import GradientTransformation as GradientTransformation
from adamx._base import (
    GradientTransformationExtraArgs as GradientTransformationExtraArgs,
)
from adamx._base import identity as identity
from adamx._base import set_to_zero as set_to_zero
from adamx._base import stateless as stateless
from adamx._chain import chain as chain
from adamx._chain import named_chain as named_chain
from adamx._average import eval_params as eval_params
from adamx._tree import apply_updates as apply_updates
from adamx._tree import global_norm as global_norm
from adamx._tree import tree_bias_correction as tree_bias_correction

# Types for annotations.
from adamx._base import MaskOrFn as MaskOrFn
from adamx._base import OptState as OptState
from adamx._base import Params as Params
from adamx._base import ScalarOrSchedule as ScalarOrSchedule
from adamx._base import Schedule as Schedule
from adamx._base import Updates as Updates

# Optimizers, each with the block that it is made of: first and second moments;
from adamx._optimizers.sgd import sgd as sgd
from adamx._optimizers.signum import sign_sgd as sign_sgd
from adamx._optimizers.signum import signum as signum
from adamx._optimizers.adagrad import ScaleByRssState as ScaleByRssState
from adamx._optimizers.adagrad import adagrad as adagrad
from adamx._optimizers.adagrad import scale_by_rss as scale_by_rss
from adamx._optimizers.adadelta import ScaleByAdaDeltaState as ScaleByAdaDeltaState
from adamx._optimizers.adadelta import adadelta as adadelta
from adamx._optimizers.adadelta import scale_by_adadelta as scale_by_adadelta
from adamx._optimizers.rmsprop import ScaleByRStdDevState as ScaleByRStdDevState
from adamx._optimizers.rmsprop import (
    ScaleByRStdDevWithCountState as ScaleByRStdDevWithCountState,
)
from adamx._optimizers.rmsprop import ScaleByRmsState as ScaleByRmsState
from adamx._optimizers.rmsprop import (
    ScaleByRmsWithCountState as ScaleByRmsWithCountState,
)
from adamx._optimizers.rmsprop import rmsprop as rmsprop
from adamx._optimizers.rmsprop import scale_by_rms as scale_by_rms
from adamx._optimizers.rmsprop import scale_by_stddev as scale_by_stddev
from adamx._optimizers.rprop import ScaleByRpropState as ScaleByRpropState
from adamx._optimizers.rprop import rprop as rprop
from adamx._optimizers.rprop import scale_by_rprop as scale_by_rprop

# Adam and its line;
from adamx._optimizers.adam import ScaleByAdamState as ScaleByAdamState
from adamx._optimizers.adam import adam as adam
from adamx._optimizers.adam import scale_by_adam as scale_by_adam
from adamx._optimizers.adam_root import ScaleByAdamRootState as ScaleByAdamRootState
from adamx._optimizers.adam_root import scale_by_adam_root as scale_by_adam_root
from adamx._optimizers.adamw import adamw as adamw
from adamx._optimizers.adamax import adamax as adamax
from adamx._optimizers.adamax import adamaxw as adamaxw
from adamx._optimizers.adamax import scale_by_adamax as scale_by_adamax
from adamx._optimizers.amsgrad import ScaleByAmsgradState as ScaleByAmsgradState
from adamx._optimizers.amsgrad import amsgrad as amsgrad
from adamx._optimizers.amsgrad import scale_by_amsgrad as scale_by_amsgrad
from adamx._optimizers.nadam import nadam as nadam
from adamx._optimizers.nadam import nadamw as nadamw
from adamx._optimizers.nadam import scale_by_nadam as scale_by_nadam
from adamx._optimizers.radam import radam as radam
from adamx._optimizers.radam import scale_by_radam as scale_by_radam
from adamx._optimizers.adabelief import ScaleByBeliefState as ScaleByBeliefState
from adamx._optimizers.adabelief import adabelief as adabelief
from adamx._optimizers.adabelief import scale_by_belief as scale_by_belief
from adamx._optimizers.yogi import scale_by_yogi as scale_by_yogi
from adamx._optimizers.yogi import yogi as yogi
from adamx._optimizers.adan import ScaleByAdanState as ScaleByAdanState
from adamx._optimizers.adan import adan as adan
from adamx._optimizers.adan import scale_by_adan as scale_by_adan
from adamx._optimizers.ademamix import ScaleByAdemamixState as ScaleByAdemamixState
from adamx._optimizers.ademamix import ademamix as ademamix
from adamx._optimizers.ademamix import scale_by_ademamix as scale_by_ademamix
from adamx._optimizers.adopt import adopt as adopt
from adamx._optimizers.adopt import scale_by_adopt as scale_by_adopt
from adamx._optimizers.laprop import ScaleByLapropState as ScaleByLapropState
from adamx._optimizers.laprop import laprop as laprop
from adamx._optimizers.laprop import scale_by_laprop as scale_by_laprop
from adamx._optimizers.adam_atan2 import adam_atan2 as adam_atan2
from adamx._optimizers.adam_atan2 import scale_by_adam_atan2 as scale_by_adam_atan2
from adamx._optimizers.mars import ScaleByMarsState as ScaleByMarsState
from adamx._optimizers.mars import mars as mars
from adamx._optimizers.mars import scale_by_mars as scale_by_mars
from adamx._optimizers.stable_adamw import (
    ScaleByStableAdamState as ScaleByStableAdamState,
)
from adamx._optimizers.stable_adamw import scale_by_stable_adam as scale_by_stable_adam
from adamx._optimizers.stable_adamw import stable_adamw as stable_adamw
from adamx._optimizers.lion import ScaleByLionState as ScaleByLionState
from adamx._optimizers.lion import lion as lion
from adamx._optimizers.lion import scale_by_lion as scale_by_lion

# with less memory;
from adamx._optimizers.adam_mini import ScaleByAdamMiniState as ScaleByAdamMiniState
from adamx._optimizers.adam_mini import adam_mini as adam_mini
from adamx._optimizers.adam_mini import adam_mini_axes as adam_mini_axes
from adamx._optimizers.adam_mini import scale_by_adam_mini as scale_by_adam_mini
from adamx._optimizers.adafactor import FactoredState as FactoredState
from adamx._optimizers.adafactor import adafactor as adafactor
from adamx._optimizers.adafactor import scale_by_factored_rms as scale_by_factored_rms
from adamx._optimizers.sm3 import ScaleBySM3State as ScaleBySM3State
from adamx._optimizers.sm3 import scale_by_sm3 as scale_by_sm3
from adamx._optimizers.sm3 import sm3 as sm3

# with a step for each layer;
from adamx._optimizers.lamb import lamb as lamb
from adamx._optimizers.lars import lars as lars
from adamx._optimizers.novograd import ScaleByNovogradState as ScaleByNovogradState
from adamx._optimizers.novograd import novograd as novograd
from adamx._optimizers.novograd import scale_by_novograd as scale_by_novograd
from adamx._optimizers.fromage import fromage as fromage

# with more of the curvature;
from adamx._optimizers.muon import MuonState as MuonState
from adamx._optimizers.muon import muon as muon
from adamx._optimizers.muon import scale_by_muon as scale_by_muon
from adamx._optimizers.sophia import SophiaState as SophiaState
from adamx._optimizers.sophia import scale_by_sophia as scale_by_sophia
from adamx._optimizers.sophia import sophia as sophia

# without a learning rate, or without a schedule.
from adamx._optimizers.prodigy import ProdigyState as ProdigyState
from adamx._optimizers.prodigy import prodigy as prodigy
from adamx._optimizers.schedule_free import ScheduleFreeState as ScheduleFreeState
from adamx._optimizers.schedule_free import (
    ScheduleFreeWithAverageState as ScheduleFreeWithAverageState,
)
from adamx._optimizers.schedule_free import schedule_free as schedule_free
from adamx._optimizers.schedule_free import (
    schedule_free_eval_params as schedule_free_eval_params,
)
from adamx._optimizers.schedule_free_adamw import (
    schedule_free_adamw as schedule_free_adamw,
)
from adamx._optimizers.schedule_free_adamw import schedule_free_sgd as schedule_free_sgd

# Steps in one pass over memory, parameters included.
from adamx._fused.adamw import fused_adam as fused_adam
from adamx._fused.adamw import fused_adamw as fused_adamw
from adamx._fused.step import FusedOptimizer as FusedOptimizer

# Blocks.
from adamx._transforms.bias import BiasCorrectionState as BiasCorrectionState
from adamx._transforms.bias import bias_correction as bias_correction
from adamx._transforms.decay import WeightDecaySchedule as WeightDecaySchedule
from adamx._transforms.decay import add_decayed_weights as add_decayed_weights
from adamx._transforms.decay import corrected_weight_decay as corrected_weight_decay
from adamx._transforms.decay import decay_mask as decay_mask
from adamx._transforms.decay import independent_weight_decay as independent_weight_decay
from adamx._transforms.scale import ScaleByScheduleState as ScaleByScheduleState
from adamx._transforms.scale import scale as scale
from adamx._transforms.scale import scale_by_learning_rate as scale_by_learning_rate
from adamx._transforms.scale import scale_by_schedule as scale_by_schedule
from adamx._transforms.sign import scale_by_sign as scale_by_sign
from adamx._transforms.moments import EmaState as EmaState
from adamx._transforms.moments import TraceState as TraceState
from adamx._transforms.moments import ema as ema
from adamx._transforms.moments import trace as trace
from adamx._transforms.trust import (
    scale_by_param_block_norm as scale_by_param_block_norm,
)
from adamx._transforms.trust import scale_by_param_block_rms as scale_by_param_block_rms
from adamx._transforms.trust import scale_by_trust_ratio as scale_by_trust_ratio
from adamx._transforms.clip import adaptive_grad_clip as adaptive_grad_clip
from adamx._transforms.clip import clip as clip
from adamx._transforms.clip import clip_by_block_rms as clip_by_block_rms
from adamx._transforms.clip import clip_by_global_norm as clip_by_global_norm
from adamx._transforms.clean import ZeroNansState as ZeroNansState
from adamx._transforms.clean import centralize as centralize
from adamx._transforms.clean import zero_nans as zero_nans
from adamx._transforms.orthogonalize import MuonDimensionNumbers as MuonDimensionNumbers
from adamx._transforms.hessian import GaussNewtonState as GaussNewtonState
from adamx._transforms.hessian import HutchinsonState as HutchinsonState
from adamx._transforms.hessian import (
    gauss_newton_estimator_diag_hessian as gauss_newton_estimator_diag_hessian,
)
from adamx._transforms.hessian import (
    hutchinson_estimator_diag_hessian as hutchinson_estimator_diag_hessian,
)

# Wrappers: a transformation in, a transformation out.
from adamx._wrappers.cautious import cautious as cautious
from adamx._wrappers.grokfast import GrokfastState as GrokfastState
from adamx._wrappers.grokfast import grokfast as grokfast

# Wrappers for a training loop: hyperparameters in the state;
from adamx._wrappers.inject import (
    InjectStatefulHyperparamsState as InjectStatefulHyperparamsState,
)
from adamx._wrappers.inject import get_hyperparams as get_hyperparams
from adamx._wrappers.inject import inject_hyperparams as inject_hyperparams

# gradients of several batches in one step;
from adamx._wrappers.accumulate import MultiSteps as MultiSteps
from adamx._wrappers.window import MultiStepsState as MultiStepsState
from adamx._wrappers.window import WeightedMultiStepsState as WeightedMultiStepsState
from adamx._wrappers.accumulate import skip_large_updates as skip_large_updates
from adamx._wrappers.accumulate import skip_not_finite as skip_not_finite

# steps that are left out;
from adamx._wrappers.finite import ApplyIfFiniteState as ApplyIfFiniteState
from adamx._wrappers.finite import apply_if_finite as apply_if_finite
from adamx._wrappers.loss_scale import LossScaleState as LossScaleState
from adamx._wrappers.loss_scale import dynamic_loss_scale as dynamic_loss_scale
from adamx._wrappers.loss_scale import loss_scale as loss_scale
from adamx._wrappers.spikes import SkipSpikesState as SkipSpikesState
from adamx._wrappers.spikes import skip_spikes as skip_spikes

# averages of parameters;
from adamx._wrappers.ema_params import EmaParamsState as EmaParamsState
from adamx._wrappers.ema_params import ema_params as ema_params
from adamx._wrappers.tail_average import TailAverageState as TailAverageState
from adamx._wrappers.tail_average import tail_average as tail_average
from adamx._wrappers.lookahead import LookaheadWithSlowState as LookaheadWithSlowState
from adamx._wrappers.lookahead import lookahead as lookahead

# rows of tables;
from adamx._rows import SparseRows as SparseRows
from adamx._rows import sum_rows as sum_rows
from adamx._wrappers.catch_up import OnRowsState as OnRowsState
from adamx._wrappers.on_rows import on_rows as on_rows

# a rate that follows a measure;
from adamx._transforms.plateau import ReduceLROnPlateauState as ReduceLROnPlateauState
from adamx._transforms.plateau import reduce_on_plateau as reduce_on_plateau
from adamx._transforms.progress import (
    ScaleByTokenScheduleState as ScaleByTokenScheduleState,
)
from adamx._transforms.progress import (
    scale_by_token_schedule as scale_by_token_schedule,
)

# what a step did.
from adamx._diagnostics.record import RecordState as RecordState
from adamx._diagnostics.record import record as record
from adamx._diagnostics.report import get_metrics as get_metrics
from adamx._diagnostics.report import summary as summary

# Low precision: how moments are kept;
from adamx._rounding import Storage as Storage
from adamx._rounding import stochastic_round as stochastic_round

# states in less memory;
from adamx._precision.compress_state import CompressedState as CompressedState
from adamx._precision.compress_state import compress_state as compress_state
from adamx._precision.codec import Codec as Codec
from adamx._precision.companded import companded_codec as companded_codec
from adamx._precision.codec import plain_codec as plain_codec
from adamx._precision.float8 import float8_codec as float8_codec
from adamx._precision.dynamic import dynamic256_codec as dynamic256_codec
from adamx._precision.dynamic import int4_codec as int4_codec

# parameters of 16 bits that lose nothing;
from adamx._precision.master_weights import MasterWeights24State as MasterWeights24State
from adamx._precision.master_weights import MasterWeightsState as MasterWeightsState
from adamx._precision.master_weights import master_weights as master_weights
from adamx._precision.float32 import from_float32 as from_float32
from adamx._precision.float32 import to_float32 as to_float32
from adamx._precision.kahan import KahanSumState as KahanSumState
from adamx._precision.kahan import kahan_sum as kahan_sum
from adamx._precision.round_weights import (
    RoundStochasticallyState as RoundStochasticallyState,
)
from adamx._precision.round_weights import round_stochastically as round_stochastically

# and what cannot work, before a run and during one.
from adamx._precision.check import Finding as Finding
from adamx._precision.check import check_numerics as check_numerics
from adamx._precision.code_metrics import code_metrics as code_metrics

# Many devices: where states lie, ZeRO-1, the memory of the host.
from adamx._sharding.states import ShardingReport as ShardingReport
from adamx._sharding.states import WholeArray as WholeArray
from adamx._sharding.step import jit_step as jit_step
from adamx._sharding.states import sharding_report as sharding_report
from adamx._sharding.states import state_shardings as state_shardings
from adamx._sharding.zero1 import zero1 as zero1

# Schedules.
from adamx._schedules.ademamix import ademamix_alpha_schedule as ademamix_alpha_schedule
from adamx._schedules.ademamix import ademamix_b3_schedule as ademamix_b3_schedule
from adamx._schedules.decay import constant_schedule as constant_schedule
from adamx._schedules.decay import cosine_decay_schedule as cosine_decay_schedule
from adamx._schedules.cycle import cosine_onecycle_schedule as cosine_onecycle_schedule
from adamx._schedules.decay import exponential_decay as exponential_decay
from adamx._schedules.join import join_schedules as join_schedules
from adamx._schedules.cycle import linear_onecycle_schedule as linear_onecycle_schedule
from adamx._schedules.training import inverse_sqrt_schedule as inverse_sqrt_schedule
from adamx._schedules.decay import linear_schedule as linear_schedule
from adamx._schedules.training import over_epochs as over_epochs
from adamx._schedules.join import (
    piecewise_constant_schedule as piecewise_constant_schedule,
)
from adamx._schedules.join import (
    piecewise_interpolate_schedule as piecewise_interpolate_schedule,
)
from adamx._schedules.decay import polynomial_schedule as polynomial_schedule
from adamx._schedules.cycle import sgdr_schedule as sgdr_schedule
from adamx._schedules.warmup import warmup_constant_schedule as warmup_constant_schedule
from adamx._schedules.warmup import (
    warmup_cosine_decay_schedule as warmup_cosine_decay_schedule,
)
from adamx._schedules.warmup import (
    warmup_exponential_decay_schedule as warmup_exponential_decay_schedule,
)
from adamx._schedules.training import (
    warmup_stable_decay_schedule as warmup_stable_decay_schedule,
)

# Different transformations for different parameters.
from adamx._masking import MaskedNode as MaskedNode
from adamx._masking import MaskedState as MaskedState
from adamx._masking import PartitionState as PartitionState
from adamx._masking import freeze as freeze
from adamx._masking import masked as masked
from adamx._masking import partition as partition
from adamx._masking import selective_transform as selective_transform
from adamx._rules import by_path as by_path
from adamx._transforms.per_path import scale_by_path as scale_by_path
from adamx._transforms.per_path import (
    add_decayed_weights_by_path as add_decayed_weights_by_path,
)
from adamx._transforms.layerwise import layerwise_decay as layerwise_decay
from adamx._transforms.mup import mup_multipliers as mup_multipliers

# What is in a state.
from adamx._fields import NamedTupleKey as NamedTupleKey
from adamx._fields import tree_get as tree_get
from adamx._fields import tree_get_all_with_path as tree_get_all_with_path
from adamx._fields import tree_set as tree_set
from adamx._surgery import grow_state as grow_state
from adamx._surgery import reset_state as reset_state
from adamx._surgery import tree_map_params as tree_map_params

__version__ = "0.1.0"
