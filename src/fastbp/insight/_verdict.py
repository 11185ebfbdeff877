"""Floor 4, insight: from what a monitor saw to words.

Every rule asks for something that does not depend on the scale of the problem:

  depth         norms of error terms, first weighted layer against last (norms: a mean over places makes each of the many terms
                before it small, and takes nothing away).  A network that can learn everywhere keeps them within a few orders
                of magnitude; a factor per layer below or above 1 goes through all of them in the same direction.
  elasticity    |dE/dw| |w| / E: by how much of itself the loss changes when a parameter changes by all of itself, at most.
  start         what is wrong before the first update is the network's; what comes later is the step's.
  agreement     cosine of gradients of different batches: whether they hold a direction that longer steps could follow.
  update        |step| / |w|: how far a step goes.
  outcome       a loss that fell as it should acquits what looks long or dead.

Causes are named before consequences: numbers that overflow because steps are too long are first of all that.
"""

from statistics import median

from fastbp.insight._flow import Finding, Verdict
from fastbp.insight._record import short

__all__ = ["judge"]

NORMALIZING = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")
DEPTH = 1e3             # error terms may differ by so much between the first and the last layer
DEEP = 3                # fewer weighted layers have no depth through which something could vanish
ELASTIC = 1e3           # of a parameter, before the first update
GROWTH = 100            # values may grow by so much from the input or the first layer to any other
DEAD = 0.6              # share of units of a relu that were 0 for every row in every sample


def finite(x):
    return x is not None and x - x == 0


def middle(values):
    values = [v for v in values if finite(v)]
    return median(values) if values else None


def judge(watch):
    """The Verdict on what a Flow saw."""
    samples = watch.history
    full = [s for s in samples if s.layers]
    if not full:
        return Verdict()
    story = Story(watch, samples, full)
    found = []
    for rule in (exploding, vanishing, dead, saturated, not_finite, too_high, too_low, frozen):
        found += rule(story)
    found.sort(key=lambda f: -f.weight)
    return Verdict(found)


class Story:
    """What several rules read."""

    def __init__(self, watch, samples, full):
        self.watch, self.samples, self.full = watch, samples, full
        self.kinds = watch.kinds
        self.good = [s for s in full if all(e.values.b == 0 for e in s.layers.values())
                     and all(w.grad is None or finite(w.grad) for w in s.weights.values()) and not s.partial]
        self.losses = [(s.step, s.loss) for s in full if s.loss is not None]
        self.steps = samples[-1].step + 1
        self.order = list(full[0].layers)
        self.weighted = [n for n in self.order if any(k.rpartition(".")[0] == n for k in full[0].weights)
                         and not self.kinds[n].startswith(NORMALIZING)]
        self.before = [s for s in self.good if s.step == 0] or self.good[:1]        # nothing was updated yet

    def improvement(self):
        """Share of the first loss that is gone: near 1 when it was learned, below 0 when it grew."""
        values = [v for _, v in self.losses if finite(v)]
        if len(values) < 4:
            return None
        early, late = median(values[:3]), median(values[-max(3, len(values) // 4):])
        return (early - late) / abs(early) if early else 0.0

    def update(self, late=True):
        """Median of the update-to-weight ratios of the weights that are updated (no biases: they begin at 0)."""
        ratios = []
        for s in self.good:
            if late and s.step < self.steps // 2:
                continue
            of = [w.update / w.value for name, w in s.weights.items()
                  if w.update and w.value and w.given and not name.endswith("bias")]
            if of:
                ratios.append(median(of))
        return middle(ratios)

    def first_step(self):
        """Median of the update-to-weight ratios of the matrices at the very first step: above 1, the initialization is gone."""
        ratios = [w.update / w.value for s in self.good[:1] if s.step == 0 for name, w in s.weights.items()
                  if w.update and w.value and w.given and w.n > 64 and not name.endswith("bias")]
        return median(ratios) if ratios else 0

    def elasticity(self, sample):
        """{parameter: |g| |w| / |E|}."""
        if not finite(sample.loss) or sample.loss == 0:
            return {}
        return {name: w.grad * w.value * w.n / abs(sample.loss) for name, w in sample.weights.items()
                if finite(w.grad) and not name.endswith("bias") and w.n > 1}

    def steady(self):
        """Whether gradients keep direction and size over tens of steps: then a step of ten times the length is safe, whatever
        the size of the weights."""
        def size(s):
            return sum(w.grad ** 2 * w.n for w in s.weights.values() if finite(w.grad)) ** 0.5
        apart = [(b.agree, size(b) / size(a)) for a, b in zip(self.good, self.good[1:])
                 if b.step - a.step >= 10 and b.agree is not None and size(a) > 0]
        return bool(apart) and median(x for x, _ in apart) > 0.9 and 0.7 < median(x for _, x in apart) < 1.4

    def depth(self, sample):
        """[(layer, norm of its error term)] of the weighted layers, in forward order."""
        return [(n, sample.layers[n].errors.norm) for n in self.weighted if n in sample.layers and sample.layers[n].errors.n]


def activations_of(story):
    return sorted({story.kinds[n] for n in story.order} & {"sigmoid", "tanh", "relu"})


def exploding(story, later=True):
    """Of the initialization; later: also now and then, unless it is the steps that do it."""
    found = []
    for s in story.before:
        errors = story.depth(s)
        last = errors[-1][1] if errors else 0
        values = [(n, s.layers[n].top) for n in story.order]
        begin = story.order[0]          # a whole sequence in one call: what it began with is the input
        start = max(s.input or 0, 0 if story.kinds[begin] in ("RNN", "LSTM", "GRU") and s.input else s.layers[begin].low)
        grown = max(values, key=lambda x: x[1], default=("", 0))
        if len(errors) >= DEEP and last > 0 and max(e for _, e in errors) > DEPTH * last:
            name, top = max(errors, key=lambda x: x[1])
            found.append(Finding("exploding", name, f"error terms grow on their way back: {short(top / last, 2)} times larger at "
                                 f"{name!r} than at the last layer {errors[-1][0]!r}.",
                                 "initialize weights with variance 1/fan_in or 2/fan_in (nn.init.kaiming_normal_), normalize "
                                 "layers, clip gradients (nn.utils.clip_grad_norm_).", s.step, 10))
        elif start > 0 and grown[1] > GROWTH * start:
            found.append(Finding("exploding", grown[0], f"values grow on their way forward: {short(grown[1] / start, 2)} times "
                                 f"the input at {grown[0]!r}, before the first update.",
                                 "initialize weights with variance 1/fan_in or 2/fan_in (nn.init.kaiming_normal_), scale the "
                                 "recurrent weights to spectral radius 1 (nn.init.orthogonal_), normalize layers.", s.step, 10))
        else:
            elastic = story.elasticity(s)
            times = [(n, e) for n, e in s.layers.items() if e.calls > 4 and e.first and e.last and e.first > DEPTH * e.last]
            top = max(elastic.items(), key=lambda x: x[1], default=("", 0))
            if top[1] > ELASTIC or times:
                where = times[0][0] if times else top[0]
                found.append(Finding("exploding", where, f"gradients explode: a relative change of {where!r} changes the loss "
                                     f"{short(top[1], 2)} times as much, before the first update.",
                                     "clip gradients (nn.utils.clip_grad_norm_), initialize recurrent weights orthogonal "
                                     "(nn.init.orthogonal_), use LSTM or GRU, shorten sequences.", s.step, 10))
    recurrent = any(cell in kind for kind in story.kinds.values() for cell in ("RNN", "LSTM", "GRU"))
    if not found and later and recurrent and len(story.good) >= 4 and not too_high(story):
        sizes = [max(story.elasticity(s).values(), default=0) for s in story.good]       # now and then is enough to undo the rest
        if max(sizes) > ELASTIC and max(sizes) > 100 * (median(sizes) or 1e-30):
            found.append(Finding("exploding", "", f"gradients explode now and then: {short(max(sizes) / median(sizes), 2)} times "
                                 "their usual size.", "clip gradients (nn.utils.clip_grad_norm_).",
                                 story.good[sizes.index(max(sizes))].step, 9))
    return found[:1]


def vanishing(story):
    shares, early, where = [], [], None
    for s in story.good:
        errors = story.depth(s)
        if len(errors) < DEEP or not errors[-1][1] > 0:
            continue
        last = errors[-1][1]
        shares.append(errors[0][1] / last)
        if s.step == 0:         # at the start: of the initialization, if all layers take part (not one that begins at 0)
            drops = [a / b for (_, a), (_, b) in zip(errors, errors[1:]) if b > 0]
            early.append(errors[0][1] / last if shares[-1] > 0 and min(drops) > shares[-1] ** 0.5 else 1.0)
        below = [n for n, e in errors if e < last / DEPTH]
        where = below[-1] if below else where
    recurrent = [n for n, k in story.kinds.items() if k.endswith("Cell")]
    for n in recurrent:
        ratios = [s.layers[n].errors for s in story.good if n in s.layers]
        times = [s.layers[n] for s in story.good if n in s.layers and s.layers[n].calls >= 8]
        ratio = middle([e.first / e.last for e in times if e.last])
        if ratios and ratio is not None and ratio < 1 / (DEPTH * 1000):
            return [Finding("vanishing", n, f"error terms vanish through time in {n!r}: at the first call {short(ratio, 2)} of "
                            "those at the last.",
                            "use LSTM or GRU, initialize recurrent weights orthogonal, shorten sequences.", 0, 8)]
    share = middle(shares)
    if share is not None and share >= 1 / DEPTH and (story.improvement() or 0) < 0.5 and (middle(early) or 1) < 0.1 / DEPTH:
        share = middle(early)
    if share is None or share >= 1 / DEPTH:
        return []
    if dead_layers(story) and share == 0:
        return []
    squash = [a for a in activations_of(story) if a != "relu"]
    why = (f"every {' and '.join(squash)} multiplies the error term by at most {'1/4' if squash == ['sigmoid'] else '1'}"
           if squash else "the weights are too small for their fan-in")
    return [Finding("vanishing", where or story.weighted[0],
                    f"error terms vanish from layer {where or story.weighted[0]!r} down: at the first layer "
                    f"{story.weighted[0]!r} {short(share, 2)} of those at the last ({why}).",
                    "use relu and its relatives with nn.init.kaiming_normal_, add skip connections, normalize layers.", 0, 8)]


def dead_layers(story):
    """[(relu, share of units that were 0 for every row in every late sample, and in the first one)]."""
    out = []
    for n in story.order:
        masks = [s.layers[n].dead for s in story.good if n in s.layers and s.layers[n].dead is not None]
        masks = [m for m in masks if m.size == masks[-1].size]
        late = masks[-max(3, len(masks) // 2):]
        if len(late) >= 2:
            every = late[0].copy()
            for m in late[1:]:
                every &= m
            if every.mean() > (DEAD if (story.improvement() or 0) < 0.9 else 0.9):     # the others may well be enough
                out.append((n, float(every.mean()), float(masks[0].mean())))
    return out


def dead(story):
    found = []
    for n, share, at_start in dead_layers(story)[:1]:
        early = at_start > DEAD
        found.append(Finding("dead", n, f"{short(100 * share, 3)} % of the units of {n!r} are 0 for every input"
                             + (" from the start" if early else f", at the start {short(100 * at_start, 3)} %")
                             + ": no gradient goes through them, and they never come back.",
                             "start biases at 0 and normalize inputs, use leaky_relu or gelu, " + (
                                 "check the sign of what is fed in." if early else "lower the learning rate."),
                             0, 7 if early else 4))
    return found


def saturated(story):
    found = []
    for n in story.order:
        kind = story.kinds[n]
        of = [s.layers[n].values for s in story.good if n in s.layers]
        if not of or kind not in ("sigmoid", "tanh"):
            continue
        if n == story.order[-1]:
            continue                            # an output that is sure is no fault
        size = [4 * (v.q / v.n - v.mean + 0.25) if kind == "sigmoid" else v.q / v.n for v in of]    # mean of tanh^2
        full = size[0] > 0.8 if (story.improvement() or 0) >= 0.25 else (middle(size) or 0) > 0.8
        if full:
            found.append(Finding("saturated", n, f"{n!r} sits at its limits for nearly all inputs: its derivative is near 0.",
                                 "scale inputs to mean 0 and variance 1, initialize smaller weights (nn.init.xavier_normal_), "
                                 "normalize layers.", 0, 6))
    last = story.weighted[-1] if story.weighted else None
    if last and any(s.loss_row.startswith(("CrossEntropy", "Nll", "Mean")) and "CrossEntropy" in s.loss_row for s in story.good):
        outputs = [s.layers[last].values for s in story.good if last in s.layers]
        spread = middle([max(v.q / v.n - v.mean ** 2, 0) ** 0.5 for v in outputs if v.n])
        loss = middle([v for _, v in story.losses[len(story.losses) // 2:]])
        if spread is not None and loss is not None and spread > 15 and loss > 2:
            found.append(Finding("saturated", last, f"the softmax after {last!r} is saturated: its inputs spread by "
                                 f"{short(spread, 2)}, so that it is sure, and often wrong.",
                                 "initialize the last layer smaller, scale its inputs, add label smoothing.", 0, 6))
    return found[:1]


def not_finite(story):
    bad = None
    for s in story.samples:
        layer = next((n for n, e in s.layers.items() if e.values.b), None)
        grads = [n for n, w in s.weights.items() if w.grad is not None and not finite(w.grad)]
        weights = [n for n, w in s.weights.items() if w.bad]
        if layer or grads or weights or (s.loss is not None and not finite(s.loss)):
            bad = s, layer, grads, weights
            break
    if bad is None:
        return []
    s, layer, grads, weights = bad
    if s.partial and not weights:
        text = f"gradients are not finite from step {s.step} on, while the parameters were."
        where = ""
    elif layer and not weights:
        text, where = f"{layer!r} is the first layer whose values are not finite, from step {s.step} on.", layer
    elif weights:
        text, where = f"parameters are not finite from step {s.step} on ({weights[0]!r}, ...).", weights[0]
    elif s.loss is not None and not finite(s.loss):
        text, where = (f"the loss is {s.loss} from step {s.step} on, though all layers are finite: it arises between the last "
                       "layer and the loss."), ""
    else:
        text, where = (f"gradients are not finite from step {s.step} on, though values and loss are: a derivative at a point "
                       "where it does not exist, as of sqrt, log or a division at 0."), ""
    return [Finding("non-finite", where, text, "find the operation: insight.graph(function) names the first node that is not "
                    "finite, autograd.detect_anomaly() the derivative; keep arguments of log, sqrt and divisions away from 0 "
                    "(log_softmax, cross_entropy, + eps).", s.step, 5)]


def too_high(story):
    """Steps overshoot: the loss grows or stays up while steps are long, though nothing was wrong before the first one."""
    if exploding(story, later=False):
        return []
    losses = [v for _, v in story.losses]
    clean = [v for v in losses if finite(v)]
    if len(clean) < 3:
        return []
    start = median(clean[:1]) if len(clean) < 6 else clean[0]
    late = median(clean[-max(2, len(clean) // 4):])
    broke = len(clean) < len(losses) or not_finite(story)
    peak = max(clean)
    ratios = [w.update / w.value for s in story.good for name, w in s.weights.items()
              if w.update and w.value and w.given and not name.endswith("bias") and w.n > 1]
    longest = max(ratios, default=0)
    usual = story.update(late=False) or 0
    worse = late > 1.3 * abs(start) + 1e-12 and peak > 2 * abs(start)
    blown = broke and (peak > 10 * abs(start) or longest > 1)
    wild = longest > 0.5 and (story.improvement() or 0) < 0.25 and usual > 2e-2 and not story.steady()
    killed = [n for n, _, at_start in dead_layers(story) if at_start <= DEAD / 2] if longest > 0.3 else []
    first = story.first_step()
    learned = (story.improvement() or 0) > 0.8          # what it did at the start did no harm, unless the weights were lost
    leaps = longest > 0.3 and peak > 3 * abs(start) and (first > 1 or not learned)
    lost = (first > 3 and not learned) or (first > (5 if learned else 1) and peak > 1.5 * abs(start))
    if not (worse or blown or wild or killed or leaps or lost):
        return []
    typical = max(usual, min(longest, 10.0) / 10)
    factor = round_half_decade(max(3, min(1000, typical / 3e-3)))
    how = ("the loss grows" if worse or blown else "the loss does not fall" if wild else f"units of {killed[0]!r} die" if killed
           else "the loss leaps up and down" if leaps else f"the first step replaces the weights (by {short(100 * first, 3)} %)")
    return [Finding("learning rate too high", "", f"{how} ({short(start, 3)} → {short(late, 3)}, at most {short(peak, 3)}) and a "
                    f"step changes weights by up to {short(100 * longest, 3)} %.",
                    f"divide the learning rate by about {short(factor)}, warm up, clip gradients.", 0, 9)]


def round_half_decade(x):
    """1, 3, 10, 30, ...: more is not known.

    >>> [round_half_decade(x) for x in (1.2, 4, 25, 70)]
    [1, 3, 30, 100]
    """
    from math import log10
    k = round(2 * log10(x))
    return 10 ** (k // 2) * (3 if k % 2 else 1)


def too_low(story):
    """The loss hardly moves, while gradients of different batches agree on a direction and steps are short."""
    better, usual = story.improvement(), max(story.update(late=False) or 0, story.update() or 0)
    if better is None or not usual or story.steps < 30 or better > 0.6 or (better < -0.1 and usual > 3e-4):
        return []
    if exploding(story) or vanishing(story) or dead_layers(story) or not_finite(story) or saturated(story):
        return []
    agree = middle([s.agree for s in story.good])
    later = middle([s.agree for s in story.good[len(story.good) // 2:]])
    if story.steady() and not frozen(story):
        return [slow(story, better, 1.0, usual)]
    if agree is None or later is None or agree < 0.1 or usual > (6.5e-3 if better > 0.25 else 5e-3):
        return []
    if better > 0.25 and later < (0.55 if usual > 2e-3 or better > 0.45 else 0.3):     # it moves; straight on?
        return []
    if better > 0.25 and frozen(story):     # what moves has learned what it could
        return []
    if later < 0.35 and usual > 1e-3:       # steps of a usual length, and nothing to follow: there may be no more to learn
        return []
    return [slow(story, better, agree, usual)]


def slow(story, better, agree, usual):
    factor = round_half_decade(max(3, min(1000, 3e-3 / usual if usual < 1e-3 else 10)))
    fallen = short(100 * max(better, 0), 2)
    return Finding("learning rate too low", "", f"after {story.steps} steps the loss has fallen by {fallen} %, though "
                   f"gradients of different batches agree (cosine {short(agree, 2)}); a step changes weights by "
                   f"{short(100 * usual, 2)} %.", f"multiply the learning rate by about {short(factor)}.", 0, 6)


def frozen(story):
    """Parameters that are used, and never change, while others do."""
    if len(story.good) < 3:
        return []
    late = story.good[1:]
    moves, still = [], {}
    for name in late[-1].weights:
        of = [s.weights[name] for s in late if name in s.weights]
        updates = [w.update for w in of if w.update is not None]
        (moves if any(updates) else still.setdefault(name.rpartition(".")[0], [])).append(name)
    if not moves:
        return []
    layers = {}
    for home, names in still.items():
        if not any(m.rpartition(".")[0] == home for m in moves) and home in story.order:
            layers[home] = names
    if dead_layers(story) or (vanishing(story) and layers):
        layers = {h: n for h, n in layers.items() if not all(story.good[-1].weights[k].grad == 0 for k in n)}
    if not layers:
        return []
    home, names = next(iter(layers.items()))
    w = story.good[-1].weights[names[0]]
    why = ("it is not among the optimizer's parameters, or requires no grad" if not w.given else
           "no gradient reaches it: the graph is cut (detach, no_grad, .data, .item)" if w.grad is None or w.grad == 0 else
           "its learning rate is 0")
    more = f" (and {len(layers) - 1} more layers)" if len(layers) > 1 else ""
    return [Finding("frozen", home, f"{home!r} never changes{more}: {why}.",
                    "if it shall learn: give it to the optimizer with requires_grad_(True), and keep it in the graph.", 0, 3)]
