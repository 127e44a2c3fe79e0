"""What happens between a question and its answer: rate, retry, and flights shared by everyone who waits.

How one key is governed, in the order in which it reads best. Only `governor` and `queue` wait; the rest of it is pure.

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

Words:

- *cushion*: tokens by which the copy of the key's bucket is kept below the gateway's own.
- *behind*: calls that leave between a refused one and the moment its refusal is heard.
- *episode*: refusals that say the same, of calls that left before the first of them was heard.
- *cycle*: the calls from one refusal that measures the rate to the next, at whose end stands the *probe*.
- *excess*: the share by which the copy fills faster than the key was measured to allow.
- *run*, *stop*: the calls between two pauses that a ``Retry-After`` on a 429 asks for, and such a pause.
- *crowd*: calls that arrive together, since those that left earlier took longer.
- *drought*: while a key refuses every call, though there is no outage.
- *canary*: one call that finds out, for all who wait, whether an outage, a drought or a used-up quota is over.

And around it: `retry` decides what is asked again, `budget` what may be spent, `flights` share one call among all who
want the same.
"""
