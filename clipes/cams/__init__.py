"""Class activation maps on the patch grid: their sources, and the affinity that propagates them.

Tensors in, tensors out: nothing here knows pixels' colours, masks or files."""
