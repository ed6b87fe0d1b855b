"""SOKD: semi-online knowledge distillation (Liu et al., BMVC 2021).

Paper: https://arxiv.org/abs/2111.11747. Code: https://github.com/swlzq/Semi-Online-KD
(``trainer/sokd.py`` and ``configs/sokd.yaml`` at de7b598).

The teacher T is frozen. A *knowledge bridge* B, a trainable copy of the teacher's top layers, reads
the teacher's lower features and learns together with the student S, from the label, from the
teacher and from the student. The student learns from the label and from the bridge, never from the
teacher itself::

    L = l1 CE(S) + l2 T^2 KL(B || S)
      + a1 CE(B) + a2 T^2 KL(T || B) + a3 T^2 KL(S || B),     all weights 1, T = 4

* Direction: the left distribution of each KL is the target, as in the code.
* Detached: every target (the bridge for the student, the student and the teacher for the bridge),
  and the teacher's features that the bridge reads: nothing but the bridge and the student moves.
* Both branches' losses are summed; sums over rows. No ramp-up.
* The bridge ends in the teacher's own projection, frozen. ``bridge_init`` starts its layers from
  the teacher's (then it equals the teacher before the first update) or newly drawn.
* The student ships. The bridge on top of the teacher's lower layers is an improved teacher:
  ``tsa-mt export CKPT OUT --to fairseq --branch bridge``.
* Logits of the standalone call: the student's, then the bridge's.
* Deviations: the code leaves the "frozen" teacher in training mode, so that its BatchNorm drifts
  and its targets are noisy; here it is in eval mode. The code overwrites the copied bridge by
  random values, and the paper's rule is not known; the copy is the default here, ``bridge_init
  random`` is the code's. Its bridge is the last third of a ResNet and trains its own classifier;
  here it is the upper half of the decoder with the classifier frozen (over a vocabulary the
  classifier would be larger than the bridge), ``bridge_layers`` changes the size. Feature losses,
  which the paper adds and the code lacks, are left out.
"""

from typing import Any

from tsa_mt.objectives import Context, LossTerms, Objective, Option, Rows, register_objective
from tsa_mt.objectives import functional as F
from tsa_mt.objectives.config import NOT_NEGATIVE, Range
from tsa_mt.tree import Tree

BRIDGE_INITS = ("teacher", "random")


@register_objective("sokd")
class SOKD(Objective):
    """A student and a bridge out of a frozen teacher; see the module's docstring.

    Raises:
        ValueError: The tree is not a chain: the student is one network.

    Detached: every target.
    Form: *by its code*: Liu et al. 2021, [code](https://github.com/swlzq/Semi-Online-KD).
    """

    default_tree = "chain"
    needs_teacher = True
    needs_bridge = True
    temperature = Option.temperature(4.0)
    student_task_weight = Option.weight(1.0, "weight of the student's task loss")
    student_bridge_weight = Option.weight(1.0, "weight of KL(bridge || student)")
    bridge_task_weight = Option.weight(1.0, "weight of the bridge's task loss")
    bridge_teacher_weight = Option.weight(1.0, "weight of KL(teacher || bridge)")
    bridge_student_weight = Option.weight(1.0, "weight of KL(student || bridge)")
    bridge_layers = Option(
        0,
        "how many of the teacher's top decoder layers the bridge copies; 0 = the upper half",
        NOT_NEGATIVE,
    )
    bridge_init = Option(
        "teacher",
        "how the bridge starts: 'teacher', as a copy of those layers, or 'random', newly drawn",
        Range(lambda value: value in BRIDGE_INITS, " or ".join(BRIDGE_INITS)),
    )

    def __init__(self, tree: Tree, *arguments: Any, **options: Any):
        super().__init__(tree, *arguments, **options)
        if len(tree.leaves) != 1:
            raise ValueError(
                f"objective 'sokd' has one student and a bridge, but tree '{tree}' has "
                f"{len(tree.leaves)} leaves; use --tree chain"
            )

    @property
    def gradients(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.gradients`."""
        return {
            "student_task": ("leader",),
            "student_bridge": ("leader",),
            "bridge_task": ("bridge",),
            "bridge_teacher": ("bridge",),
            "bridge_student": ("bridge",),
        }

    def task_weight(self, context: Context) -> float:
        """See `Objective.task_weight`."""
        return self.student_task_weight

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`; the terms' names say who learns from whom."""
        scale = self.temperature**2
        student_task, bridge_task = rows.task_losses()
        log_probs = rows.log_probs(temperature=self.temperature)
        student, bridge = log_probs[:1], log_probs[1:]
        teacher = rows.teacher.mean_log_probs(self.temperature).detach()
        terms = {
            "student_task": student_task,
            "student_bridge": scale * F.imitation(bridge[0], student).sum(),
            "bridge_task": bridge_task,
            "bridge_teacher": scale * F.imitation(teacher, bridge).sum(),
            "bridge_student": scale * F.imitation(student[0], bridge).sum(),
        }
        return {name: getattr(self, f"{name}_weight") * term for name, term in terms.items()}
