"use strict";

// The formula of pipeline/core/exact.py, for settings that change while somebody looks.

const RANGES = { alpha: [0, 1000], gamma: [0, 10], max_weight: [1, 1001] };

/** Why these settings are impossible, or null if they are possible. `window` is in tokens. */
function objection(settings, window) {
  const { tau, alpha, max_weight: ceiling } = settings;
  if (!Number.isInteger(tau) || tau < 0 || tau > window - 1) {
    return `tau must be a whole number from 0 to ${window - 1}`;
  }
  for (const [name, [least, most]] of Object.entries(RANGES)) {
    const given = name !== "max_weight" || ceiling !== null;
    if (given && !(settings[name] >= least && settings[name] <= most)) {
      return `${name.replace("_", " ")} must be from ${least} to ${most}`;
    }
  }
  if (ceiling === null) return null;
  if (1 + alpha > ceiling) {
    return (
      `max weight ${ceiling} leaves room for alpha ${Number((ceiling - 1).toPrecision(6))} ` +
      `at most, and alpha is ${alpha}; raise max weight or lower alpha`
    );
  }
  return null;
}

/**
 * The weight of every bucket.
 *
 * `buckets` have `low` (tokens) and `targets`. Returns one row per bucket with `in_tail`, `share`,
 * `inverse_frequency` (null outside the tail) and `weight`, and the `budget`, which is the mean
 * extra weight over the tail's targets.
 */
function weightTable(buckets, { tau, alpha, gamma, epsilon, max_weight: ceiling }) {
  const tail = buckets.filter((row) => row.low >= tau && row.targets > 0);
  const total = sum(tail, (row) => row.targets);
  const weighted = tail.map((row) => {
    const share = row.targets / total;
    return { low: row.low, share, inverse: (share + epsilon) ** -gamma, extra: 0 };
  });
  spend(weighted, alpha, ceiling === null ? Infinity : ceiling - 1);
  const byLow = new Map(weighted.map((entry) => [entry.low, entry]));
  const rows = buckets.map(({ bucket, low, high, targets }) => {
    const entry = byLow.get(low);
    return {
      bucket,
      low,
      high,
      targets,
      in_tail: entry !== undefined,
      share: entry ? entry.share : null,
      inverse_frequency: entry ? entry.inverse : null,
      weight: entry ? 1 + entry.extra : 1,
    };
  });
  return { rows, budget: sum(weighted, (entry) => entry.share * entry.extra) };
}

/** Sets `extra` of each entry: the rarest reach the ceiling first, the others share what is left. */
function spend(entries, alpha, ceiling) {
  const free = [...entries].sort((a, b) => b.share - a.share);
  let budget = alpha;
  while (free.length > 0) {
    const scale = Math.max(0, budget) / sum(free, (entry) => entry.share * entry.inverse);
    if (scale * free[free.length - 1].inverse <= ceiling) {
      for (const entry of free) entry.extra = scale * entry.inverse;
      return;
    }
    const capped = free.pop();
    capped.extra = ceiling;
    budget -= capped.share * ceiling;
  }
}

/**
 * What the weights do to one row of an inspection: its buckets and sources with their shares of the
 * total loss weight before and after, and the figures of the whole. A share of nothing is 0, and a
 * mean of nothing is null.
 */
function reweighted(row, settings) {
  const { rows, budget } = weightTable(row.buckets, settings);
  const weights = rows.map((entry) => entry.weight);
  const targets = sum(rows, (entry) => entry.targets);
  const mass = sum(rows, (entry) => entry.targets * entry.weight);
  const squares = sum(rows, (entry) => entry.targets * entry.weight ** 2);
  const part = (some, whole) => (whole > 0 ? some / whole : 0);
  let seen = 0;
  const buckets = rows.map((entry) => ({
    ...entry,
    share: part(entry.targets, targets),
    cumulative_share: part((seen += entry.targets), targets),
    mass_before: part(entry.targets, targets),
    mass_after: part(entry.targets * entry.weight, mass),
  }));
  const tailTargets = sum(rows, (entry) => (entry.in_tail ? entry.targets : 0));
  const sources = row.sources.map((source) => {
    const weighted = sum(source.histogram, (count, b) => count * weights[b]);
    const inTail = sum(source.histogram, (count, b) => (rows[b].in_tail ? count : 0));
    return {
      name: source.name,
      documents: source.documents,
      tokens: source.tokens,
      targets: source.targets,
      tail_targets: inTail,
      tail_share: part(inTail, tailTargets),
      mass_before: part(source.targets, targets),
      mass_after: part(weighted, mass),
      mean_weight: source.targets > 0 ? weighted / source.targets : null,
    };
  });
  return {
    buckets,
    sources,
    budget,
    tail_before: part(tailTargets, targets),
    tail_after: sum(buckets, (entry) => (entry.in_tail ? entry.mass_after : 0)),
    tail_empty: tailTargets === 0,
    tail_windows: sum(row.windows_by_largest, (windows, b) =>
      buckets[b].low >= settings.tau ? windows : 0,
    ),
    largest_weight: weights.reduce((most, weight) => Math.max(most, weight), 1),
    mean_weight: targets > 0 ? mass / targets : null,
    effective_sample_size: targets > 0 ? mass ** 2 / squares / targets : null,
  };
}

function sum(items, value) {
  return items.reduce((total, item, index) => total + value(item, index), 0);
}
