"""What happens between a question and its answer: rate, retry, and flights shared by everyone who waits.

How one key is governed, in the order in which it reads best. Only `governor` and `queue` wait; all below them is pure.

- `governor` gives grants and hears what becomes of them; `queue` holds those who wait, as long as their `patience`
  allows; `statistics` is what can be read of it.
- What may hold a call: `bucket` (a limit that was given), `pacing` (what the key turns out to allow), `gate`
  (``Retry-After``), `circuit` (outages) and `quota`.
- `pacing` lets calls out: before the first 429 by the `ramp`, afterwards in one of four ways (`way`), which share what
  is known of the `key`:

  - `tracking`, the usual one, runs a little above what is measured (`measuring`), and so meets the limit once in a
    `cycle`; when it should have met it and did not, a `surge` looks how much more there is. Where every 429 stops all
    calls, `stops` tells the rate from the `runs` between them.
  - `stepping`, where hardly any `burst` leaves room for that.
  - `climbing`, where a limit was told that others use too, of which `sharing` sees signs.
  - `balancing`, where a limit was told whose burst is too small for how unevenly calls arrive, as `crowding` sees it.

- `calls` remembers the calls of a key; `given` tells whether a refusal contradicts a limit that was given.

And around it: `retry` decides what is asked again, `budget` what may be spent, `flights` share one call among all who
want the same.
"""
