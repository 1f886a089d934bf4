"""Parts that simulated users are put together from, one trait a file; `recgym.users.SimulatedUsers` joins them.

| file | trait |
|---|---|
| `choice` | which of the shown items are answered: logit, proportional, cascade, position-based, ... |
| `ratings` | answers in stars, from taste and biases |
| `watching` | answers in minutes, paid from a budget of time |
| `evolution` | taste that moves towards or away from what was consumed |
| `influence` | taste that becomes what was consumed; wandering |
| `boredom` | too much of a topic, and the topic or everything loses its appeal |
| `satiation` | appeal that fades with exposure and comes back with time |
| `satisfaction` | what is engaging now may satisfy little in the long run |
| `patience` | leaving after too little joy |
| `returning` | visits, and days until the next one, by what was earned or by quality |
| `penalties` | lower places, items like their neighbours, slates full of one topic |
"""
