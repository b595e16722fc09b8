/*
 * Signed votes on the next view with members that lie (docs/PROTOCOL.md, "Change" and "Members that lie"): one epoch,
 * two values, a few ballots. README.md says what is modelled.
 *
 * A liar's vote counts for everything at once, and anything may be proposed to anybody in any ballot, so that liars need
 * no process of their own: a certificate is a quorum of honest signatures and those of all liars.
 */
#ifndef HONEST
#define HONEST 3               /* members that follow the protocol, at most 5                                  */
#endif
#ifndef LIARS
#define LIARS 1
#endif
#ifndef BALLOTS
#define BALLOTS 3              /* at most 3                                                                    */
#endif
#define MEMBERS (HONEST + LIARS)
#ifdef MAJORITY
#define NEEDED  (MEMBERS / 2 + 1)
#else
#define NEEDED  (2 * MEMBERS / 3 + 1)
#endif

#define AT(n, b)  (4 * (n) + (b))

byte endorsed[20];             /* by honest node and ballot: the value it has endorsed there, 0 none; a bit   */
                               /*   set, so that a mutation may endorse both                                   */
byte accepted[20];             /* by honest node and ballot: the value it has accepted there                  */
byte promised[5];              /* by honest node: the highest ballot it has promised                          */
byte locked[5];                /* ... the ballot in which it accepted last, 0 none                            */

#define HAS(x, n, b, v)  (n < HONEST && (x[AT(n, b)] & v) != 0)
#define COUNT(x, b, v)   (HAS(x, 0, b, v) + HAS(x, 1, b, v) + HAS(x, 2, b, v) + HAS(x, 3, b, v) + HAS(x, 4, b, v))
#define QUORUM(x, b, v)  (COUNT(x, b, v) + LIARS >= NEEDED)
/* A quorum has endorsed v in a ballot after `from` and before `b`. */
#define SHOWN(v, from, b) ((1 > from && 1 < b && QUORUM(endorsed, 1, v)) || \
                           (2 > from && 2 < b && QUORUM(endorsed, 2, v)))

#ifdef MUT_NO_LOCK
#define FREE(n, b, v)    (true)
#else
#define FREE(n, b, v)    (locked[n] == 0 || (accepted[AT(n, locked[n])] & v) != 0 || SHOWN(v, locked[n], b))
#endif
#ifdef MUT_SIGNS_TWICE
#define ONCE(x, n, b, v) ((x[AT(n, b)] & v) == 0)
#else
#define ONCE(x, n, b, v) (x[AT(n, b)] == 0)
#endif
#ifdef MUT_ONE_PHASE
#define ENDORSED(b, v)   (true)
#else
#define ENDORSED(b, v)   QUORUM(endorsed, b, v)
#endif

/* With the last signature of a quorum a view is decided, though nobody may know it yet. */
#define DECIDED(v)       (QUORUM(accepted, 1, v) || QUORUM(accepted, 2, v) || QUORUM(accepted, 3, v))

active [HONEST] proctype Node() {
  byte n = _pid;
  byte b, v;
end:
  do
  :: atomic { select(b : 1 .. BALLOTS); select(v : 1 .. 2);
       if
       :: b >= promised[n] && ONCE(endorsed, n, b, v) && FREE(n, b, v) ->
          printf("node %d endorses %d in ballot %d\n", n, v, b);
          promised[n] = b; endorsed[AT(n, b)] = endorsed[AT(n, b)] | v
       :: b >= promised[n] && ONCE(accepted, n, b, v) && ENDORSED(b, v) ->
          printf("node %d accepts %d in ballot %d\n", n, v, b);
          promised[n] = b; locked[n] = b; accepted[AT(n, b)] = accepted[AT(n, b)] | v;
          assert(!(DECIDED(1) && DECIDED(2)))
       :: else -> skip
       fi;
       b = 0; v = 0 }
  od
}
