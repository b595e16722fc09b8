/*
 * The ring's membership and round-commit protocol (docs/PROTOCOL.md), for exhaustive checking with Spin.
 * README.md says what is modelled, what is abstracted and how it maps to packages/ring/src/view.
 *
 * Messages are not channels but facts that have been said: once set, a bit may be read by anybody, at any later time,
 * any number of times or never. That is loss, delay, duplication, reordering and partition at once.
 * Every step makes something grow or spends a budget, so there are no cycles, and "the ring goes on" is a question
 * about the states in which nothing more can happen (process Clock, with -DLIVENESS).
 *
 * A mutation (-DMUT_...) breaks one rule; the checker has to find what goes wrong.
 */

/* ---- bounds, each can be given as -DNAME=value ------------------------------------------------------------- */
#ifndef N
#define N 3                    /* nodes, at most 4                                                             */
#endif
#ifndef INITIAL
#define INITIAL 7              /* members of view 1 as a bit set; the other nodes are at the door              */
#endif
#ifndef ROUNDS
#define ROUNDS 2               /* rounds to commit, at most 7                                                  */
#endif
#ifndef EPOCHS
#define EPOCHS 3               /* the last epoch that can be decided; view 1 is given; at most 7               */
#endif
#ifndef BALLOTS
#define BALLOTS 2              /* ballots in each epoch, at most 4                                             */
#endif
#ifndef SUSPICIONS
#define SUSPICIONS 2           /* view changes begun for whatever reason: a suspicion, a join, a leave         */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#ifndef CORRUPTIONS
#define CORRUPTIONS 0          /* results that come out different on one member                                */
#endif

/* ---- sets of nodes and of ballots are bits in a byte -------------------------------------------------------- */
#define BIT(x)       (1 << (x))
#define IN(x, s)     (((s) >> (x)) & 1)
#define ALL          (BIT(N) - 1)
#define SIZE(s)      (IN(0, s) + IN(1, s) + IN(2, s) + IN(3, s))
#define SUBSET(a, b) (((a) & ~(b)) == 0)
#define TOP(s)       (IN(4, s) -> 4 : (IN(3, s) -> 3 : (IN(2, s) -> 2 : IN(1, s))))       /* highest ballot    */
#ifdef MUT_QUORUM_ANY
#define QUORUM(s, of) (((s) & (of)) != 0)
#else
#define QUORUM(s, of) (2 * SIZE((s) & (of)) > SIZE(of))
#endif

/* ---- what has been said, by epoch --------------------------------------------------------------------------- */
/* A hash names a result: 2 * (epoch it was computed in) + (1 when it came out corrupted). Genesis has 0. */
typedef Epoch {
  byte used;                   /* ballots taken by a proposer                                                  */
  byte open;                   /* those of them whose messages still arrive                                    */
  byte promised[4];            /* by node: ballots it has promised; when there are any, the node is frozen     */
  byte accepted[4];            /* by node: ballots it has accepted                                             */
  byte report[4 * BALLOTS + 4];/* by ballot and node: what came with the promise, see REPORT                   */
  byte members[BALLOTS + 1];   /* by ballot, the value that its proposer asked to accept: members (0: not yet) */
  byte boots[BALLOTS + 1];     /*   their boots (a member that has restarted is not the one in the view),      */
  byte round[BALLOTS + 1];     /*   the start: the round that the view holds as committed,                     */
  byte hash[BALLOTS + 1];      /*   and its hash. Entry 0 is the value that was decided.                       */
  bit decided;                 /* accepted by a quorum, whether or not anybody knows                           */
  byte ran;                    /* rounds whose all-reduce has begun with all members                           */
  byte done[ROUNDS + 1];       /* by round: members that said done                                             */
  byte odd[ROUNDS + 1];        /* those of them with a corrupted hash                                          */
  byte prepared[ROUNDS + 1]    /* by round: members that said prepared                                         */
};
Epoch at[EPOCHS + 2];
#define MEMBERS(e)   (e == 1 -> INITIAL : at[e].members[0])
#define BOOTS(e)     at[e].boots[0]
#define START(e)     at[e].round[0]
#define STARTHASH(e) at[e].hash[0]

/* ---- what each node knows ----------------------------------------------------------------------------------- */
byte view[4] = 1;              /* durable: epoch of the latest decided view it has heard of                    */
byte state_round[4];           /* durable: the round its state has reached ...                                 */
byte state_hash[4];            /*   and that round's hash                                                      */
byte mark_round[4];            /* durable: the newest round it has prepared here, or its view starts from ...  */
byte mark_hash[4];             /*   and that round's hash                                                      */
byte held[4];                  /* hash of the computed result of state_round + 1, 0 none: in memory, and       */
                               /*   durable from the moment it is prepared                                     */
byte ballot[4];                /* in memory: its own ballot for view + 1, 0 none                               */
byte got[4];                   /* ... and who has promised it so far,                                          */
byte newest[4];                /*   the newest report among them,                                              */
byte vote[4];                  /*   and the highest ballot that one of them had accepted                       */
byte up = ALL;                 /* nodes that run                                                               */
byte boot;                     /* by node: changes with every start of its process                             */
byte silent;                   /* crashed, and what they had said reaches nobody any more                      */
byte suspicions = SUSPICIONS, crashes = CRASHES, restarts = RESTARTS, corruptions = CORRUPTIONS;
bool calm;                     /* faults are over, and suspicion is accurate                                   */

byte truth[ROUNDS + 1];        /* read by assertions only: the hash with which a round is committed for ever   */
byte b, h, i, k, m, q, r, w;   /* scratch of the step under way, 0 between steps                               */

#define HERE          at[view[n]]
#define NEXT          at[view[n] + 1]
#define RUNS(n)       IN(n, up)
#define MEMBER(n)     IN(n, MEMBERS(view[n]))
#define FROZEN(n)     (at[view[n] + 1].promised[n] != 0)
#define TURN(n)       (state_round[n] + 1)
#define HEARD(s)      ((s) & (~silent | BIT(n)))       /* of what nodes s have said, what n can still hear      */
#define SAID(a, x)    (IN(x, a[0]) | IN(x, a[1]) << 1 | IN(x, a[2]) << 2 | IN(x, a[3]) << 3)
#ifdef MUT_NOT_FROZEN
#define OPEN(n)       (1)
#else
#define OPEN(n)       (!FROZEN(n))
#endif
/* n may act in the rounds of its view: a member, not restarted, with the view's start, and no next view promised. */
#define TAKES_PART(n) (RUNS(n) && MEMBER(n) && IN(n, boot) == IN(n, BOOTS(view[n])) && OPEN(n) && \
                       state_round[n] >= START(view[n]) && state_round[n] < ROUNDS)

/* Blanks what nobody can read any more: everything about views older than all have, and about rounds that all have
 * behind them. It changes no behaviour; histories that differ only in this meet in one state. */
inline forget() {
  d_step {
    q = view[0]; r = state_round[0]; i = 1;
    do
    :: i < N ->
       if :: view[i] < q -> q = view[i] :: else fi;
       if :: state_round[i] < r -> r = state_round[i] :: else fi;
       i++
    :: else -> break
    od;
    k = 1;
    do
    :: k <= q ->
       at[k].used = 0; at[k].open = 0;
       i = 0;
       do :: i < 4 -> at[k].promised[i] = 0; at[k].accepted[i] = 0; i++ :: else -> break od;
       i = 0;
       do :: i < 4 * BALLOTS + 4 -> at[k].report[i] = 0; i++ :: else -> break od;
       i = (k < q -> 0 : 1);
       do
       :: i <= BALLOTS ->
          at[k].members[i] = 0; at[k].boots[i] = 0; at[k].round[i] = 0; at[k].hash[i] = 0; i++
       :: else -> break
       od;
       k++
    :: else -> break
    od;
    k = 1;
    do
    :: k <= EPOCHS ->
       i = 1;
       do
       :: i <= ROUNDS && (k < q || i <= r) ->
          at[k].ran = at[k].ran & ~BIT(i); at[k].done[i] = 0; at[k].odd[i] = 0; at[k].prepared[i] = 0; i++
       :: else -> break
       od;
       k++
    :: else -> break
    od;
    q = 0; r = 0; i = 0; k = 0
  }
}

/* Node n's state becomes the one after round rr. */
inline become(rr, hh) {
  state_round[n] = rr; state_hash[n] = hh; held[n] = 0; forget()
}

/* Node n commits the result in its memory. A round has one hash for ever, and no view may have left it behind. */
inline commit() {
  r = TURN(n); h = held[n];
  printf("node %d commits round %d with hash %d\n", n, r, h);
  assert(truth[r] == 0 || truth[r] == h);
  truth[r] = h;
  k = view[n] + 1;
  do
  :: k <= EPOCHS && at[k].decided -> assert(START(k) >= r); k++
  :: else -> break
  od;
  k = 0;
  become(TURN(n), h); h = 0
}

/* Node n learns that view e was decided. A result that the view starts from stays at hand. */
inline install(e) {
  printf("node %d takes view %d: members %d, start (%d, %d)\n", n, e, MEMBERS(e), START(e), STARTHASH(e));
  view[n] = e; ballot[n] = 0; got[n] = 0; newest[n] = 0; vote[n] = 0;
  assert(state_round[n] <= START(e));
  if
  :: TURN(n) == START(e) && held[n] == STARTHASH(e) -> skip
  :: else -> held[n] = 0
  fi;
#ifdef MUT_START_FORGOTTEN
  if
  :: state_round[n] >= START(e) -> mark_round[n] = 0; mark_hash[n] = 0
  :: else -> mark_round[n] = START(e); mark_hash[n] = STARTHASH(e)
  fi;
#else
  mark_round[n] = START(e); mark_hash[n] = STARTHASH(e);
#endif
  forget()
}

/* What a promise tells: the newest round that n has prepared, was told to start from, or has in its state; and whether
 * n has what it takes to commit it. */
#define LARGER(x, y)    (x > y -> x : y)
#define REPORT(x, y)    NEXT.report[4 * (x) + (y)]
#define REPORTED(p)     ((p) >> 5)
#define REPORTHASH(p)   (((p) >> 1) & 15)
#define REPORTHELD(p)   ((p) & 1)
inline promise(x) {
#ifdef MUT_START_FORGOTTEN
  r = mark_round[n]; h = mark_hash[n]; w = (state_round[n] >= r || (held[n] == h && TURN(n) == r));
#else
  if
  :: mark_round[n] > state_round[n] ->
     r = mark_round[n]; h = mark_hash[n]; w = (held[n] == h && TURN(n) == r)
  :: else -> r = state_round[n]; h = state_hash[n]; w = 1
  fi;
#ifdef MUT_REPORT_WITHOUT_START
  if :: r == START(view[n]) && r > state_round[n] -> r = state_round[n]; h = state_hash[n]; w = 1 :: else fi;
#endif
#endif
  printf("node %d promises ballot %d of epoch %d: newest (%d, %d), held %d\n", n, x, view[n] + 1, r, h, w);
  NEXT.promised[n] = NEXT.promised[n] | BIT(x);
  REPORT(x, n) = r << 5 | h << 1 | w;
  r = 0; h = 0; w = 0
}

/* A proposer that hears of a higher ballot gives its own up. */
inline give_up_below(x) {
#ifdef MUT_OWN_BALLOT_KEPT
  skip
#else
  if :: x > ballot[n] -> ballot[n] = 0; got[n] = 0; newest[n] = 0; vote[n] = 0 :: else -> skip fi
#endif
}

/* Acceptor n accepts ballot x; with the last vote of a quorum the view is decided, though nobody may know it yet. */
inline accept(x) {
  printf("node %d accepts ballot %d of epoch %d: members %d, start (%d, %d)\n", n, x, view[n] + 1,
         NEXT.members[x], NEXT.round[x], NEXT.hash[x]);
  NEXT.promised[n] = NEXT.promised[n] | BIT(x);
  NEXT.accepted[n] = NEXT.accepted[n] | BIT(x);
  if
  :: QUORUM(SAID(NEXT.accepted, x), MEMBERS(view[n])) ->
     if
     :: NEXT.decided ->                                      /* at most one view in an epoch                   */
        assert(NEXT.members[x] == NEXT.members[0] && NEXT.boots[x] == NEXT.boots[0] &&
               NEXT.round[x] == NEXT.round[0] && NEXT.hash[x] == NEXT.hash[0])
     :: else ->
        NEXT.decided = 1;
        NEXT.members[0] = NEXT.members[x]; NEXT.boots[0] = NEXT.boots[x];
        NEXT.round[0] = NEXT.round[x]; NEXT.hash[0] = NEXT.hash[x];
        r = NEXT.round[x];
        assert(r == 0 || truth[r] == 0 || truth[r] == NEXT.hash[x]);   /* the start contradicts no commit,     */
        truth[r] = NEXT.hash[x];                                       /* is one from now on,                  */
        r++;
        do
        :: r <= ROUNDS -> assert(truth[r] == 0); r++                   /* and leaves none behind               */
        :: else -> break
        od;
        r = 0
     fi
  :: else
  fi
}

/* The members of a new view: any nodes with the proposer among them; when all is calm, those that run. */
inline choose_members() {
  if
  :: calm -> m = up
  :: !calm -> m = 1
  :: !calm -> m = 2
  :: !calm -> m = 3
  :: !calm && N > 2 -> m = 4
  :: !calm && N > 2 -> m = 5
  :: !calm && N > 2 -> m = 6
  :: !calm && N > 2 -> m = 7
  :: !calm && N > 3 -> m = 8
  :: !calm && N > 3 -> m = 9
  :: !calm && N > 3 -> m = 10
  :: !calm && N > 3 -> m = 11
  :: !calm && N > 3 -> m = 12
  :: !calm && N > 3 -> m = 13
  :: !calm && N > 3 -> m = 14
  :: !calm && N > 3 -> m = 15
  fi;
  m = m | BIT(n); i = boot & m
}

/* Proposer n has the promise of acceptor a. With a quorum of them it asks to accept a value, and accepts it itself: the
 * value accepted last among the promisers, else a new one that starts from the newest round reported. When none of them
 * can commit that round it waits for more promises. A round that was prepared in this very view, and that all of its
 * members promise not to hold, is lost by all and will be run again; one that the view started from is not, as somebody
 * outside may have committed it. */
#ifdef MUT_LOST_START_RERUN
#define INHERITED 0
#else
#define INHERITED (r == START(view[n]))
#endif
inline record_promise(a) {
  got[n] = got[n] | BIT(a);
  w = TOP(NEXT.accepted[a] & (BIT(ballot[n]) - 1));
  if :: w > vote[n] -> vote[n] = w :: else fi;
  w = REPORT(ballot[n], a);
  if :: w > newest[n] -> newest[n] = w :: else fi;      /* the later round first, then the one that is held    */
  w = 0;
  if
  :: QUORUM(got[n], MEMBERS(view[n])) ->
     r = REPORTED(newest[n]); h = REPORTHASH(newest[n]); k = ballot[n];
     if
     :: vote[n] != 0 ->
        m = NEXT.members[vote[n]]; i = NEXT.boots[vote[n]]; r = NEXT.round[vote[n]]; h = NEXT.hash[vote[n]]
     :: vote[n] == 0 && REPORTHELD(newest[n]) -> choose_members()
     :: vote[n] == 0 && !REPORTHELD(newest[n]) ->
        if
        :: got[n] == MEMBERS(view[n]) && !INHERITED && TURN(n) == r ->
           r = state_round[n]; h = state_hash[n]; choose_members()
        :: else -> skip
        fi
     fi;
     if
     :: m != 0 ->
        NEXT.members[k] = m; NEXT.boots[k] = i; NEXT.round[k] = r; NEXT.hash[k] = h;
        got[n] = 0; newest[n] = 0; vote[n] = 0;
        r = 0; accept(k)
     :: else -> skip
     fi;
     m = 0; i = 0; r = 0; h = 0; k = 0
  :: else -> skip
  fi
}

/* Proposer n takes ballot x and promises it to itself. */
inline take_ballot(x) {
  printf("node %d opens ballot %d of epoch %d\n", n, x, view[n] + 1);
  ballot[n] = x; NEXT.used = NEXT.used | BIT(x); NEXT.open = NEXT.open | BIT(x);
  got[n] = 0; newest[n] = 0; vote[n] = 0;
  promise(x); record_promise(n)
}

#define ACCEPTOR(n)       (RUNS(n) && MEMBER(n) && view[n] < EPOCHS)
/* All nodes are alike at first, so the first to propose may be called node 0. */
#if INITIAL == (1 << N) - 1
#define FIRST(n)          (n == 0 || suspicions < SUSPICIONS)
#else
#define FIRST(n)          (1)
#endif
#ifdef LIVENESS
#define LIMIT             (BALLOTS - 1)       /* the last one is for the timeout when all is calm              */
#else
#define LIMIT             BALLOTS
#endif
#define FREE(x)           (x <= LIMIT && !IN(x, NEXT.used) && x > TOP(NEXT.promised[n]))
#define PROMISABLE(x)     (IN(x, NEXT.open) && x > TOP(NEXT.promised[n]))
#define ASKED(x)          (x <= BALLOTS && NEXT.members[x] != 0)
#define PROMISED(y)       (y < N && IN(ballot[n], NEXT.promised[y]) && IN(y, HEARD(MEMBERS(view[n]))) && !IN(y, got[n]))
#define ACCEPTABLE(x)     (IN(x, NEXT.open) && x >= TOP(NEXT.promised[n]) && !IN(x, NEXT.accepted[n]) && ASKED(x))
#define NEWS(s)           (s < N && s != n && IN(s, HEARD(ALL)) && view[s] > view[n])
#define AHEAD(s)          (s < N && IN(s, up) && view[s] <= view[n] && state_round[s] > state_round[n])

/* A round can run: all members of the view take part in it at one moment, and start from the same state. */
#define READY(x)          (!IN(x, MEMBERS(view[n])) || (TAKES_PART(x) && view[x] == view[n] && TURN(x) == TURN(n)))
#define SAME(x)           (!IN(x, MEMBERS(view[n])) || state_hash[x] == state_hash[n])
/* All of the view said done, with the hash that n holds. */
#define AGREED(n)         (SUBSET(MEMBERS(view[n]), HEARD(HERE.done[TURN(n)])) && \
                           HERE.odd[TURN(n)] == ((held[n] & 1) -> MEMBERS(view[n]) : 0))

active [N] proctype Node() {
  byte n = _pid;
end:
  do
  /* -- the next view: Paxos among the members of this one -------------------------------------------------- */
  :: atomic { ACCEPTOR(n) && suspicions > 0 && FIRST(n) && (FREE(1) || FREE(2) || FREE(3) || FREE(4)) ->
       suspicions--;                                                          /* prepare                       */
       if :: FREE(1) -> b = 1 :: FREE(2) -> b = 2 :: FREE(3) -> b = 3 :: FREE(4) -> b = 4 fi;
       take_ballot(b); b = 0 }
  :: atomic { ACCEPTOR(n) && (PROMISABLE(1) || PROMISABLE(2) || PROMISABLE(3) || PROMISABLE(4)) ->
       if                                                                     /* promise                       */
       :: PROMISABLE(1) -> b = 1 :: PROMISABLE(2) -> b = 2 :: PROMISABLE(3) -> b = 3 :: PROMISABLE(4) -> b = 4
       fi;
       give_up_below(b); promise(b); b = 0 }
  :: atomic { ACCEPTOR(n) && ballot[n] != 0 && !ASKED(ballot[n]) &&
              (PROMISED(0) || PROMISED(1) || PROMISED(2) || PROMISED(3)) ->   /* promised; accept              */
       if :: PROMISED(0) -> b = 0 :: PROMISED(1) -> b = 1 :: PROMISED(2) -> b = 2 :: PROMISED(3) -> b = 3 fi;
       record_promise(b); b = 0 }
  :: atomic { ACCEPTOR(n) && (ACCEPTABLE(1) || ACCEPTABLE(2) || ACCEPTABLE(3) || ACCEPTABLE(4)) ->
       if                                                                     /* accepted                      */
       :: ACCEPTABLE(1) -> b = 1 :: ACCEPTABLE(2) -> b = 2 :: ACCEPTABLE(3) -> b = 3 :: ACCEPTABLE(4) -> b = 4
       fi;
       give_up_below(b); accept(b); b = 0 }
  :: atomic { ACCEPTOR(n) && ballot[n] != 0 && QUORUM(HEARD(SAID(NEXT.accepted, ballot[n])), MEMBERS(view[n])) ->
       w = view[n] + 1; install(w); w = 0 }                                   /* decided, at the proposer      */
  :: atomic { RUNS(n) && (NEWS(0) || NEWS(1) || NEWS(2) || NEWS(3)) ->        /* decided, at everybody else    */
       if :: NEWS(0) -> w = view[0] :: NEWS(1) -> w = view[1] :: NEWS(2) -> w = view[2] :: NEWS(3) -> w = view[3] fi;
       install(w); w = 0 }

  /* -- the round: all-reduce, done, prepared, committed ---------------------------------------------------- */
  :: atomic { TAKES_PART(n) && !IN(TURN(n), HERE.ran) && READY(0) && READY(1) && READY(2) && READY(3) ->
       printf("view %d runs round %d\n", view[n], TURN(n));
       assert(SAME(0) && SAME(1) && SAME(2) && SAME(3));
       HERE.ran = HERE.ran | BIT(TURN(n)) }
  :: atomic { TAKES_PART(n) && IN(TURN(n), HERE.ran) && !IN(n, HERE.done[TURN(n)]) ->
       held[n] = 2 * view[n];
       if
       :: corruptions > 0 -> corruptions--; held[n]++; HERE.odd[TURN(n)] = HERE.odd[TURN(n)] | BIT(n)
       :: skip
       fi;
       printf("node %d has done round %d with hash %d\n", n, TURN(n), held[n]);
       HERE.done[TURN(n)] = HERE.done[TURN(n)] | BIT(n) }
#ifdef MUT_ONE_PHASE
  :: atomic { TAKES_PART(n) && held[n] && AGREED(n) -> commit() }
#else
  :: atomic { TAKES_PART(n) && held[n] && mark_round[n] != TURN(n) && AGREED(n) ->
       printf("node %d is prepared for round %d\n", n, TURN(n));
       mark_round[n] = TURN(n); mark_hash[n] = held[n];
       HERE.prepared[TURN(n)] = HERE.prepared[TURN(n)] | BIT(n) }
  :: atomic { TAKES_PART(n) && held[n] && mark_round[n] == TURN(n) &&
              QUORUM(HEARD(HERE.prepared[TURN(n)]), MEMBERS(view[n])) -> commit() }
#endif
  :: atomic { RUNS(n) && TURN(n) == START(view[n]) && held[n] == STARTHASH(view[n]) -> commit() }

  /* -- state sync: from whoever is ahead, in this view or an older one ------------------------------------- */
  :: atomic { RUNS(n) && (AHEAD(0) || AHEAD(1) || AHEAD(2) || AHEAD(3)) ->
       if :: AHEAD(0) -> i = 0 :: AHEAD(1) -> i = 1 :: AHEAD(2) -> i = 2 :: AHEAD(3) -> i = 3 fi;
       w = state_round[i]; h = state_hash[i]; i = 0;
       printf("node %d fetches the state of round %d\n", n, w);
       become(w, h); h = 0; w = 0 }

  /* -- faults ---------------------------------------------------------------------------------------------- */
  :: atomic { RUNS(n) && crashes > 0 ->
       printf("node %d crashes\n", n);
       crashes--; up = up & ~BIT(n);
#ifdef MUT_RESULT_VOLATILE
       held[n] = 0;
#else
       if :: mark_round[n] == TURN(n) && mark_hash[n] == held[n] -> skip :: else -> held[n] = 0 fi;
#endif
#ifdef LIVENESS
       if
       :: skip                                                                /* what it said still arrives,   */
       :: silent = silent | BIT(n);                                           /* or only what already has      */
          if :: ballot[n] != 0 -> NEXT.open = NEXT.open & ~BIT(ballot[n]) :: else fi
       fi;
#endif
#ifdef MUT_PROMISES_FORGOTTEN
       NEXT.promised[n] = 0; NEXT.accepted[n] = 0;
#endif
       ballot[n] = 0; got[n] = 0; newest[n] = 0; vote[n] = 0 }
  :: atomic { !RUNS(n) && restarts > 0 ->
       printf("node %d restarts\n", n);
       restarts--; up = up | BIT(n); silent = silent & ~BIT(n); boot = boot ^ BIT(n) }
  od
}

#ifdef LIVENESS
/* Time. At any moment faults may be over. From then on, whenever nothing else can happen, a timeout fires at a node of
 * the latest view that any running node knows, and it begins a change to a view of all that run. Where that cannot be,
 * there must be a good reason. */
#define KNOWN(x)    (IN(x, up) * view[x])
#define LATEST      LARGER(LARGER(KNOWN(0), KNOWN(1)), LARGER(KNOWN(2), KNOWN(3)))
#define LAST        (at[LATEST + 1].decided -> LATEST + 1 : LATEST)
#define QUORATE     (QUORUM(up, MEMBERS(LATEST)) && QUORUM(up, MEMBERS(LAST)))
#define FINISHED(x) (!IN(x, up) || state_round[x] == ROUNDS)
#define CAN_LEAD(x) (IN(x, up & MEMBERS(LATEST)) && view[x] == LATEST)
#define HAS(x)      (x < N && (state_round[x] >= START(LATEST) || \
                     (TURN(x) == START(LATEST) && held[x] == STARTHASH(LATEST))))
#define HOLDERS     (HAS(0) | HAS(1) << 1 | HAS(2) << 2 | HAS(3) << 3)

active proctype Clock() {
  byte n;
end:
  do
  :: atomic { !calm ->
       printf("faults are over\n");
       calm = true; suspicions = 0; crashes = 0; restarts = 0; corruptions = 0 }
  :: atomic { timeout && calm ->
       if
       :: FINISHED(0) && FINISHED(1) && FINISHED(2) && FINISHED(3) -> break
       :: else -> skip
       fi;
       if
       :: !QUORATE -> break                                 /* a minority waits                                */
       :: else -> skip
       fi;
       if
       :: (HOLDERS & up) == 0 ->                            /* so does a ring whose state is only on nodes     */
          assert(HOLDERS != 0);                             /* that are down; but one there must be            */
          break
       :: else -> skip
       fi;
       assert(LATEST < EPOCHS);                             /* else the ring never stops changing, or the      */
       if                                                   /* bounds are too small                            */
       :: CAN_LEAD(0) -> n = 0 :: CAN_LEAD(1) -> n = 1 :: CAN_LEAD(2) -> n = 2 :: CAN_LEAD(3) -> n = 3
       fi;
       printf("timeout\n");
       b = TOP(NEXT.used) + 1;
       assert(b <= BALLOTS);
       take_ballot(b); b = 0; n = 0
     }
  od
}
#endif
