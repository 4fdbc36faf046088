/* Leases and hand-over (PROTOCOL 2, and 3 as far as a commit goes), for Spin. README.md says what is in it and what is not.
 *
 * The one rule of this file: an action is one atomic step, and between two steps anything else may happen. To be slow or
 * frozen is not to be scheduled. What is worse (a crash, a lost or doubled or overtaken command, a false suspicion, a
 * deposition, an abort, a request that is sent twice) costs one of FAULTS. So every run ends, and "eventually" is looked at where it ends.
 *
 * Steps have the names of agents/core/fleet/handover.py and agents/core/fleet/reconcile.py, a worker's of agents/core/lanes/tenure.py.
 *
 *   once       every input offset is committed exactly once, in order, with its output        (assert, in `commits`);
 *              from where it was set back on, once more
 *   former     a partition's former owner commits nothing more on it                          (assert, in `commits`)
 *   at_work    at the end everything is committed, by a live owner with a valid lease         (assert, in Judge)
 */

/* ---- sizes ---- */
#ifndef PARTITIONS
#define PARTITIONS 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef MOVES
#define MOVES 1         /* hand-overs that nobody is forced to */
#endif
#ifndef IN_FLIGHT
#define IN_FLIGHT 1     /* commands on their way from one coordinator to one worker; from 2 on they may overtake each other */
#endif
#ifndef LATE
#define LATE 2          /* commands that a deposed leader still sends */
#endif
#ifndef REWINDS
#define REWINDS 0       /* times that an operator sets a partition back */
#endif
#ifndef TRANSACTIONS
#define TRANSACTIONS 1  /* the cluster's transaction.version: with 2 a producer's epoch grows each time a transaction ends */
#endif
#ifndef REQUESTS
#define REQUESTS 3      /* which may stay without an answer: 1 EndTxn, 2 TxnOffsetCommit, 3 either */
#endif
#define RECORDS 2       /* of input, in each partition */
#define WORKERS 2
#define COORDINATORS 2
#define NOBODY WORKERS

/* ---- the rules, each of which can be taken out: -DWITHOUT=RULE, or 'RULE|RULE' ---- */
#define OWN_INIT      1         /* 2.1  only the coordinator calls InitProducerId for a worker */
#define ONE_LEASE     (1<<1)    /* 2.1  a boot takes one lease */
#define FENCE         (1<<2)    /* 2.2  a fence makes the lease anew */
#define FENCE_FIRST   (1<<3)    /* 2.2  fence first, then write */
#define TOLD          (1<<4)    /* 2.2  a fenced boot that is heard again is told so */
#define RETRY         (1<<5)    /* 2.2  CONCURRENT_TRANSACTIONS is retried */
#define WRITE_FIRST   (1<<6)    /* 2.3  write, then say */
#define INIT_FIRST    (1<<7)    /* 2.3  a new leader inits, then reads */
#define OWNER_STAYS   (1<<8)    /* 2.4  who is written is the owner, answered or not */
#define BOOT          (1<<9)    /* 2.5  another boot's command is refused */
#define LEADER        (1<<10)   /* 2.5  a lower leader epoch is refused */
#define EPOCH         (1<<11)   /* 2.5  a partition epoch that is not above every one released is refused */
#define NOTED         (1<<12)   /* 2.5  a release of what is not owned is noted */
#define SHOWN         (1<<13)   /* 2.6  a release is answered when the offset shows */
#define WAITED        (1<<14)   /* 2.6  the new owner waits until it sees the offset that it was told */
#define START         (1<<15)   /* 2.7  the start position is explicit */
#define NEW_BOOT      (1<<16)   /* 2.8  a boot that changes is a death */
#define AGAIN         (1<<17)   /* 2.8  what is missing is said again */
#define NO_GROUP      (1<<18)   /* 2.9  no partition is handed on without a fence */
#define ENDS          (1<<19)   /* 2.11 a deposed coordinator ends */
#define SENT          (1<<20)   /* 3.2  a failed send aborts */
#define SEEK          (1<<21)   /* 3.3  after an abort, back to the batch's start */
#define UNKNOWN       (1<<22)   /* 3.3  an unknown outcome ends the process */
#define BACK_WHOLE    (1<<23)   /* 2.3  a rewind writes the record and the offset in one transaction */
#define BACK_NOBODYS  (1<<24)   /* 2.4  only what nobody owns is rewound */
#define BACK_SHOWN    (1<<25)   /* 2.6  what was rewound is given to nobody before it shows */
#define ANSWERED      (1<<26)   /* 3.3  with transaction.version 1, a request of a transaction without an answer ends the lease */
#define GROWS         (1<<27)   /* 3.3  with transaction.version 2, the end of a transaction makes its epoch grow */
#ifndef WITHOUT
#define WITHOUT 0
#endif
#define kept(rule) (((WITHOUT) & (rule)) == 0)

mtype = { lease, assign, release }      /* commands */
mtype = { end_txn, txn_offset_commit }  /* requests of a transaction */

/* ---- Kafka ---- */
#define ORPHAN 0
#define ASSIGNED 1
#define RELEASING 2
typedef Placed { byte state; byte worker; byte boot; byte epoch; byte offset }
typedef Lease { byte boot; byte producer; bit fenced }
typedef Placement { Placed p[PARTITIONS]; Lease l[WORKERS] }
Placement topic;                        /* the topic `placement` */
Placement memory[COORDINATORS];         /* what a deposed coordinator takes it to be */
byte leader_epoch;

byte producer[WORKERS];                 /* the producer epoch that Kafka accepts from each worker's transactional id */
byte committed[PARTITIONS];             /* the group's offset */
byte shown[PARTITIONS];                 /* the same as OffsetFetch answers: later */
byte marker[PARTITIONS];                /* 1 + the worker (NOBODY: a coordinator) whose commit marker is not written yet, else 0 */
typedef Transaction { bit open; byte producer; byte p; byte from; byte epoch; bit hole }
Transaction txn[WORKERS];               /* its EndTxn is on its way, and outlives the sender; hole: a send had failed */
typedef Copy { mtype what; byte producer; byte p; byte offset; bit late }
Copy copy[WORKERS];                     /* a request that was sent twice: the one still on its way; late: its transaction is over */

byte heir[PARTITIONS], heir_epoch[PARTITIONS];  /* nobody reads it but the asserts: who was handed the partition last */
byte faults = FAULTS, moves = MOVES, late = LATE, rewinds = REWINDS;
#define may_fail (faults > 0)

/* ---- processes ---- */
typedef Own { byte epoch; byte position; bit started; bit asked; byte rel; byte relo }
typedef Boot { bit up; bit committing; byte name; byte producer; byte grown; byte leader; Own own[PARTITIONS] }
Boot w_[WORKERS];
#define me w_[w]
#define mine w_[w].own[x]
#if TRANSACTIONS == 2
#define epoch_of(w) (w_[w].producer + w_[w].grown)      /* its lease's, and once more for each transaction that has ended */
#else
#define epoch_of(w) w_[w].producer
#endif

#define STANDBY 0
#define LEADING 1
#define HAS_READ 2                      /* without INIT_FIRST only */
#define NOTHING 0
#define INIT_TO_FENCE 1                 /* a fence or a lease is three steps: wanted, InitProducerId called, written */
#define FENCE_TO_WRITE 2
#define INIT_TO_LEASE 3
#define LEASE_TO_WRITE 4
#define SAID 5                          /* without WRITE_FIRST only: + partition */
#define BACK 7                          /* without BACK_WHOLE only: + partition */
typedef Leader { byte is; bit deposed; byte epoch; byte doing; byte worker; byte boot; byte producer }
Leader c_[COORDINATORS];
#define us c_[c]
#define leads (us.is == LEADING && !us.deposed)         /* what it writes to the topic is accepted */
#define record topic.p[x]
#define lease_of topic.l[w]
#define live(w) (topic.l[w].boot != 0 && !topic.l[w].fenced)

chan to_[COORDINATORS * WORKERS] = [IN_FLIGHT] of { mtype, byte, byte, byte, byte, byte };
#define wire to_[c * WORKERS + w]       /* command, boot, leader epoch, partition, epoch (a lease's: producer epoch), offset */
#if IN_FLIGHT > 1
#define room nfull(wire)
#else
#define room empty(wire)
#endif
#if !kept(AGAIN)
byte said[PARTITIONS];
#endif
#if !kept(NOTED)
byte answered[PARTITIONS];
#endif

hidden byte i, j, n, boot, epoch, lead, part, offset;
hidden mtype what;

inline remember(a, b) {
  for (i : 0 .. PARTITIONS-1) { a.p[i].state = b.p[i].state; a.p[i].worker = b.p[i].worker; a.p[i].boot = b.p[i].boot;
                                a.p[i].epoch = b.p[i].epoch; a.p[i].offset = b.p[i].offset }
  for (i : 0 .. WORKERS-1) { a.l[i].boot = b.l[i].boot; a.l[i].producer = b.l[i].producer; a.l[i].fenced = b.l[i].fenced } }
inline forget(a) {
  for (i : 0 .. PARTITIONS-1) { a.p[i].state = 0; a.p[i].worker = 0; a.p[i].boot = 0; a.p[i].epoch = 0; a.p[i].offset = 0 }
  for (i : 0 .. WORKERS-1) { a.l[i].boot = 0; a.l[i].producer = 0; a.l[i].fenced = 0 } }
inline forget_copy(w) { copy[w].what = 0; copy[w].producer = 0; copy[w].p = 0; copy[w].offset = 0; copy[w].late = 0 }
inline close(w) { copy[w].late = (copy[w].what != 0); txn[w].open = 0; txn[w].producer = 0; txn[w].p = 0; txn[w].from = 0; txn[w].epoch = 0; txn[w].hole = 0 }

/* ======== a worker ======== */

inline ends(w) {                        /* the process; its supervisor starts another, with a new boot */
  for (i : 0 .. PARTITIONS-1) { me.own[i].epoch = 0; me.own[i].position = 0; me.own[i].started = 0; me.own[i].asked = 0;
                                me.own[i].rel = 0; me.own[i].relo = 0 }
  me.up = 0; me.committing = 0; me.producer = 0; me.grown = 0; me.leader = 0 }

inline take_lease(w) {
  if
  :: me.producer == 0 && epoch != 0 -> me.producer = epoch
  :: me.producer == epoch && epoch != 0 -> skip
  :: me.producer != epoch && me.producer != 0 && epoch != 0 && !kept(ONE_LEASE) -> me.producer = epoch
  :: else -> ends(w); close(w)          /* another lease than its own, or word that it is fenced */
  fi }
#define fresh(o) (o.epoch != 0 -> epoch > o.epoch : epoch > o.rel)
inline take_partition(w) {
  if
  :: me.producer != 0 && (kept(EPOCH) -> fresh(me.own[part]) : me.own[part].epoch != epoch) ->
     me.own[part].epoch = epoch; me.own[part].position = offset; me.own[part].started = 0; me.own[part].asked = 0; me.own[part].relo = 0
  :: else -> skip
  fi }
inline give_back(w) {
  if
  :: me.own[part].epoch == epoch -> me.own[part].asked = 1
#if kept(NOTED)
  :: me.own[part].epoch == 0 && epoch > me.own[part].rel -> me.own[part].rel = epoch; me.own[part].relo = 0
#else
  :: me.own[part].epoch == 0 && epoch > me.own[part].rel && topic.p[part].state == RELEASING && topic.p[part].epoch == epoch -> answered[part] = epoch
#endif
  :: else -> skip
  fi }
inline obey(w) {
  if
  :: kept(BOOT) && boot != me.name -> printf("      refused: another boot\n")
  :: (!kept(BOOT) || boot == me.name) && kept(LEADER) && lead < me.leader -> printf("      refused: an older leader\n")
  :: else ->
     if :: lead > me.leader -> me.leader = lead :: else fi;
     if :: what == lease -> take_lease(w) :: what == assign -> take_partition(w) :: what == release -> give_back(w) fi
  fi }

#define heard printf("W%d.%d hears %e of C%d: boot %d, leader epoch %d, p%d, epoch %d, offset %d\n", w, me.name, what, c, boot, lead, part, epoch, offset)
inline hear(c, w)      { d_step { me.up && !me.committing && nempty(wire) -> wire?what,boot,lead,part,epoch,offset; heard; obey(w) } }
inline hear_copy(c, w) { d_step { me.up && !me.committing && nempty(wire) && may_fail -> faults--; wire?<what,boot,lead,part,epoch,offset>; heard; obey(w) } }
inline lost(c, w)      { d_step { nempty(wire) && may_fail -> faults--; wire?what,boot,lead,part,epoch,offset; printf("LOST: %e of C%d to W%d\n", what, c, w) } }
inline overtaken(c, w) { d_step { IN_FLIGHT > 1 && len(wire) > 1 && may_fail -> faults--; wire?what,boot,lead,part,epoch,offset;
                                  wire!what,boot,lead,part,epoch,offset; printf("OVERTAKEN: %e of C%d to W%d\n", what, c, w) } }

inline start(w, x) {                    /* where the committed offset is, once it shows what was told */
  d_step { me.up && mine.epoch > 0 && !mine.started && (!kept(WAITED) || shown[x] >= mine.position) ->
           mine.started = 1;
           if :: !kept(START) && shown[x] == 0 -> mine.position = RECORDS       /* auto_offset_reset = latest */
              :: else -> mine.position = shown[x] fi;
           printf("W%d.%d starts p%d at %d\n", w, me.name, x, mine.position) } }
#if PARTITIONS > 1
#define markers_written (marker[0] != w+1 && marker[1] != w+1)
#else
#define markers_written (marker[0] != w+1)
#endif
inline batch(w, x) {                    /* read, produced, and the commit is on its way */
  d_step { me.up && !me.committing && !txn[w].open && mine.epoch > 0 && mine.started && !mine.asked && mine.position < RECORDS && markers_written ->
           me.committing = 1; txn[w].open = 1; txn[w].producer = epoch_of(w); txn[w].p = x; txn[w].from = mine.position; txn[w].epoch = mine.epoch;
           mine.position++; printf("W%d.%d batch of p%d at %d, epoch %d\n", w, me.name, x, txn[w].from, mine.epoch) } }
inline released_by(w, x) {              /* no batch is left, and OffsetFetch shows the offset; `released` is the answer */
  d_step { me.up && !me.committing && mine.asked && (!kept(SHOWN) || !mine.started || shown[x] >= mine.position) ->
           mine.rel = mine.epoch; mine.relo = (mine.started -> mine.position : 0);
           mine.epoch = 0; mine.position = 0; mine.started = 0; mine.asked = 0;
           printf("W%d.%d has released p%d at %d\n", w, me.name, x, mine.relo) } }
inline idle_commit(w, x) {              /* daily, so a lease that was lost on an idle partition is noticed */
  d_step { me.up && !me.committing && !txn[w].open && mine.epoch > 0 && mine.started && mine.position == RECORDS && epoch_of(w) != producer[w] ->
           printf("W%d.%d idle commit refused: ends\n", w, me.name); ends(w) } }
#if TRANSACTIONS == 2
inline ended(w) { if :: kept(GROWS) -> producer[w]++; if :: me.committing -> me.grown++ :: else fi :: else -> skip fi }
#else
inline ended(w) { skip }
#endif
inline unanswered(w, request, bit_of) { /* it stays on its way, and is sent again on a new connection */
  d_step { ((REQUESTS) & bit_of) && me.committing && may_fail && copy[w].what == 0 -> faults--; printf("UNANSWERED: %e of W%d.%d\n", request, w, me.name);
           copy[w].what = request; copy[w].producer = txn[w].producer; copy[w].p = txn[w].p; copy[w].offset = txn[w].from + 1;
           if :: TRANSACTIONS < 2 && kept(ANSWERED) -> ends(w) :: else -> skip fi } }

proctype Worker(byte w) {
  do
  :: d_step { !me.up -> me.up = 1; me.name++; printf("W%d.%d begins\n", w, me.name) }
  :: d_step { me.up && may_fail -> faults--; printf("CRASH: W%d.%d\n", w, me.name); ends(w) }
  :: d_step { me.committing && may_fail -> faults--; printf("ABORT: W%d.%d\n", w, me.name);
              if :: kept(SEEK) -> me.own[txn[w].p].position = txn[w].from :: else fi;
              ended(w); me.committing = 0; close(w) }
  :: d_step { me.committing && may_fail && !txn[w].hole -> faults--; printf("FAILED SEND: W%d.%d\n", w, me.name);
              if :: kept(SENT) -> ends(w); close(w) :: else -> txn[w].hole = 1 fi }
  :: unanswered(w, end_txn, 1) :: unanswered(w, txn_offset_commit, 2)
  :: hear(0, w)      :: hear(1, w)
  :: hear_copy(0, w) :: hear_copy(1, w)
  :: lost(0, w)      :: lost(1, w)
  :: overtaken(0, w) :: overtaken(1, w)
  :: start(w, 0) :: batch(w, 0) :: released_by(w, 0) :: idle_commit(w, 0)
#if PARTITIONS > 1
  :: start(w, 1) :: batch(w, 1) :: released_by(w, 1) :: idle_commit(w, 1)
#endif
  od }

/* ======== Kafka's side of a worker's transaction ======== */

inline commits(w) {
  part = txn[w].p;
  printf("K: W%d commits p%d at %d under epoch %d (committed %d; heir W%d, epoch %d)\n", w, part, txn[w].from, txn[w].epoch, committed[part], heir[part], heir_epoch[part]);
  if :: heir[part] != w || heir_epoch[part] != txn[w].epoch -> printf("VIOLATED former\n"); assert(false) :: else fi;
  if :: txn[w].from < committed[part] -> printf("VIOLATED once: twice\n"); assert(false)
     :: txn[w].from > committed[part] || txn[w].hole -> printf("VIOLATED once: lost\n"); assert(false)
     :: else fi;
  committed[part] = txn[w].from + 1; marker[part] = w+1; ended(w) }
inline not_known(w) {                   /* the sender never learns what became of it */
  if :: kept(UNKNOWN) -> ends(w)
     :: else -> me.own[txn[w].p].position = txn[w].from; me.committing = 0 fi;
  close(w) }
#define by_leader(x) (marker[x] == NOBODY+1)
#define accepted (txn[w].open && txn[w].producer == producer[w])

#define of_this (copy[w].p == txn[w].p -> copy[w].offset == txn[w].from + 1 : copy[w].offset == committed[copy[w].p])
inline arrives_late(w) {                /* in the next transaction, wherever in it that does most harm */
  d_step { copy[w].late && txn[w].open ->
           if :: copy[w].producer != producer[w] -> printf("K: the late %e of W%d is refused\n", copy[w].what, w)
              :: copy[w].producer == producer[w] && copy[w].what == end_txn ->
                 printf("VIOLATED once: a late EndTxn of W%d ends its next transaction, outputs without their offset\n", w); assert(false)
              :: copy[w].producer == producer[w] && copy[w].what == txn_offset_commit && !of_this ->
                 printf("VIOLATED once: a late TxnOffsetCommit of W%d: p%d is committed at %d, behind its outputs\n", w, copy[w].p, copy[w].offset); assert(false)
              :: else fi;
           forget_copy(w) } }

proctype Kafka(byte w) {
  do
  :: arrives_late(w)
  :: d_step { accepted -> commits(w); me.committing = 0; close(w) }
  :: d_step { accepted && me.committing && may_fail -> faults--; commits(w); printf("LOST: the answer\n"); not_known(w) }
  :: d_step { accepted && me.committing && may_fail -> faults--; producer[w]++; printf("TIME-OUT: the transaction of W%d is aborted\n", w) }
  :: d_step { txn[w].open && me.committing && may_fail -> faults--; printf("LOST: EndTxn of W%d\n", w); not_known(w) }
  :: d_step { txn[w].open && !me.committing -> printf("K: EndTxn of the dead W%d never comes\n", w); close(w) }
  :: d_step { txn[w].open && txn[w].producer != producer[w] -> printf("K: W%d is fenced\n", w);
              if :: me.committing && kept(OWN_INIT) -> ends(w)
                 :: me.committing && !kept(OWN_INIT) -> producer[w]++; me.producer = producer[w]; me.grown = 0; me.own[txn[w].p].position = txn[w].from; me.committing = 0
                 :: else fi;
              close(w) }
  :: d_step { marker[0] == w+1 || (w == 0 && by_leader(0)) -> marker[0] = 0; shown[0] = committed[0]; printf("K: p0 shows %d\n", shown[0]) }
#if PARTITIONS > 1
  :: d_step { marker[1] == w+1 || (w == 0 && by_leader(1)) -> marker[1] = 0; shown[1] = committed[1]; printf("K: p1 shows %d\n", shown[1]) }
#endif
  od }

inline init_producer_id(w) {            /* a decided commit is finished first, an open transaction aborted; then the epoch grows */
  n = 0; for (j : 0 .. PARTITIONS-1) { if :: marker[j] == w+1 -> n = 1 :: else fi }
  if :: n && !kept(RETRY) -> skip       /* CONCURRENT_TRANSACTIONS, taken for done */
     :: else -> producer[w]++;
        for (j : 0 .. PARTITIONS-1) { if :: marker[j] == w+1 -> shown[j] = committed[j]; marker[j] = 0 :: else fi } fi;
  if :: txn[w].open && !w_[w].committing -> close(w) :: else fi;
  printf("K: InitProducerId of W%d: %d\n", w, producer[w]) }

/* ======== a coordinator ======== */

inline orphan_all(w) {                  /* the step `fence` of each of its partitions, in one transaction */
  for (i : 0 .. PARTITIONS-1) { if :: topic.p[i].state != ORPHAN && topic.p[i].worker == w -> topic.p[i].state = ORPHAN :: else fi } }
inline orphaned(x)      { record.state = ORPHAN; record.worker = NOBODY; record.boot = 0 }
#define handed(x, w, e) heir[x] = w; heir_epoch[x] = e
inline idle()           { us.doing = NOTHING; us.worker = 0; us.boot = 0; us.producer = 0 }
inline stops(c)         { forget(memory[c]); idle(); us.is = STANDBY; us.deposed = 0; us.epoch = 0 }

/* leases */
inline fence(c, w) {                    /* it is gone, or (a fault) only slow, to answer or to release */
  d_step { leads && us.doing == NOTHING && live(w) && (!me.up || may_fail) ->
           if :: me.up -> faults-- :: else fi;
           if :: kept(FENCE_FIRST) -> skip :: else -> orphan_all(w); lease_of.fenced = 1 fi;
           us.doing = INIT_TO_FENCE; us.worker = w; printf("C%d: fence W%d.%d\n", c, w, lease_of.boot) } }
inline wants_lease(c, w) {
  d_step { leads && us.doing == NOTHING && me.up && !live(w) && me.name != lease_of.boot ->
           us.doing = INIT_TO_LEASE; us.worker = w; us.boot = me.name; printf("C%d: W%d.%d wants a lease\n", c, w, me.name) } }
inline other_boot(c, w) {               /* making its lease is the fence of the one before */
  d_step { leads && us.doing == NOTHING && me.up && live(w) && me.name != lease_of.boot ->
           us.doing = INIT_TO_LEASE; us.worker = w; us.boot = me.name; printf("C%d: W%d.%d, not %d\n", c, w, me.name, lease_of.boot) } }
inline late_presence(c, w) {            /* the same, of the boot before the one that runs */
  d_step { leads && us.doing == NOTHING && may_fail && me.name > 1 && me.name-1 != lease_of.boot ->
           faults--; us.doing = INIT_TO_LEASE; us.worker = w; us.boot = me.name-1; printf("LATE: C%d hears of W%d.%d\n", c, w, us.boot) } }
inline init_producer(c, w) {            /* nothing stops a deposed leader from calling it */
  d_step { us.worker == w && (us.doing == INIT_TO_FENCE || us.doing == INIT_TO_LEASE) ->
           if :: us.doing == INIT_TO_FENCE && !kept(FENCE) -> skip :: else -> init_producer_id(w) fi;
           if :: us.doing == INIT_TO_LEASE -> us.producer = producer[w]; us.doing = LEASE_TO_WRITE
              :: us.doing == INIT_TO_FENCE && kept(FENCE_FIRST) -> us.doing = FENCE_TO_WRITE
              :: else -> idle() fi } }
inline write_fenced(c, w) {
  d_step { leads && us.doing == FENCE_TO_WRITE && us.worker == w -> orphan_all(w); lease_of.fenced = 1;
           printf("C%d writes: W%d.%d fenced, its partitions orphans\n", c, w, lease_of.boot); idle() } }
inline write_lease(c, w) {
  d_step { leads && us.doing == LEASE_TO_WRITE && us.worker == w ->
           if :: kept(NEW_BOOT) -> orphan_all(w) :: else fi;
           lease_of.boot = us.boot; lease_of.producer = us.producer; lease_of.fenced = 0;
           printf("C%d writes: lease %d of W%d.%d, what it had orphans\n", c, us.producer, w, us.boot); idle() } }
inline say_lease(c, w) {
  d_step { leads && live(w) && me.up && me.name == lease_of.boot && me.producer != lease_of.producer && room ->
           wire!lease,lease_of.boot,us.epoch,0,lease_of.producer,0; printf("C%d says: lease %d to W%d.%d\n", c, lease_of.producer, w, lease_of.boot) } }
inline say_fenced(c, w) {
  d_step { kept(TOLD) && leads && lease_of.fenced && me.up && me.name == lease_of.boot && room ->
           wire!lease,lease_of.boot,us.epoch,0,0,0; printf("C%d says: fenced, to W%d.%d\n", c, w, lease_of.boot) } }

/* partitions */
inline place(c, w, x) {
  d_step { leads && record.state == ORPHAN && live(w) && (!kept(BACK_SHOWN) || !by_leader(x)) && (kept(FENCE_FIRST) || us.doing == NOTHING) && (kept(WRITE_FIRST) || (us.doing == SAID+x && us.worker == w)) ->
           record.state = ASSIGNED; record.worker = w; record.boot = lease_of.boot; record.epoch++; handed(x, w, record.epoch);
           if :: kept(WRITE_FIRST) -> skip :: else -> idle() fi;
           printf("C%d writes: p%d is W%d.%d's, epoch %d, offset %d\n", c, x, w, record.boot, record.epoch, record.offset) } }
inline say_before_writing(c, w, x) {
  d_step { !kept(WRITE_FIRST) && leads && record.state == ORPHAN && live(w) && us.doing == NOTHING && room && me.producer != 0 ->
           wire!assign,lease_of.boot,us.epoch,x,record.epoch+1,record.offset; handed(x, w, record.epoch+1);
           us.doing = SAID+x; us.worker = w; printf("C%d says, unwritten: assign p%d to W%d.%d\n", c, x, w, lease_of.boot) } }
#if kept(AGAIN)
#define unsaid true
#else
#define unsaid (said[x] != record.epoch)
#endif
inline say_assign(c, w, x) {            /* and again, while the owner's telemetry lacks it */
  d_step { leads && record.state == ASSIGNED && record.worker == w && me.up && me.producer != 0 && me.name == record.boot && room &&
           mine.epoch != record.epoch && mine.rel < record.epoch && unsaid ->
#if !kept(AGAIN)
           said[x] = record.epoch;
#endif
           wire!assign,record.boot,us.epoch,x,record.epoch,record.offset; printf("C%d says: assign p%d to W%d.%d, epoch %d\n", c, x, w, record.boot, record.epoch) } }
inline move(c, x) {
  d_step { leads && moves > 0 && record.state == ASSIGNED -> moves--; record.state = RELEASING; printf("C%d writes: p%d releasing\n", c, x) } }
inline ask_release(c, w, x) {
  d_step { leads && record.state == RELEASING && record.worker == w && me.up && me.name == record.boot && room && mine.rel < record.epoch && !mine.asked ->
           wire!release,record.boot,us.epoch,x,record.epoch,0; printf("C%d says: release p%d to W%d.%d, epoch %d\n", c, x, w, record.boot, record.epoch) } }
#if kept(NOTED)
#define has_answered (mine.rel == record.epoch)
#else
#define has_answered (mine.rel == record.epoch || answered[x] == record.epoch)
#endif
inline released(c, w, x) {              /* the answer: a fact that does not change in a boot's life, so it is read off the worker */
  d_step { leads && record.state == RELEASING && record.worker == w && me.name == record.boot && has_answered ->
           if :: mine.relo > record.offset -> record.offset = mine.relo :: else fi;
           orphaned(x); printf("C%d writes: p%d released at %d\n", c, x, record.offset) } }
inline rewind(c, x) {                   /* an operator's: released as for a move, and then what is committed is set back */
  d_step { leads && rewinds > 0 && (!kept(BACK_NOBODYS) || (record.state == ORPHAN && record.worker == NOBODY && record.offset == committed[x])) &&
           committed[x] > 0 && shown[x] == committed[x] && (kept(BACK_WHOLE) || us.doing == NOTHING) ->
           rewinds--; committed[x]--; marker[x] = NOBODY+1; printf("C%d sets p%d back to %d\n", c, x, committed[x]);
           if :: kept(BACK_WHOLE) -> record.offset = committed[x] :: else -> us.doing = BACK+x fi } }
inline write_rewound(c, x) {
  d_step { leads && us.doing == BACK+x -> record.offset = committed[x]; printf("C%d writes: p%d set back\n", c, x); idle() } }
inline take_back(c, w, x) {             /* without OWNER_STAYS on no answer, without NO_GROUP as a consumer group would: no fence */
  d_step { (!kept(OWNER_STAYS) || !kept(NO_GROUP)) && leads && may_fail && record.state == ASSIGNED && record.worker == w && (!kept(NO_GROUP) || mine.epoch != record.epoch) ->
           faults--; orphaned(x); printf("C%d takes p%d back without a fence\n", c, x) } }

/* a deposed leader says what it remembers */
#define old memory[c].p[x]
inline late_command(c, w, x) {
  d_step { us.deposed && late > 0 && old.state != ORPHAN && old.worker == w && nfull(wire) -> late--;
           if :: old.state == ASSIGNED -> wire!assign,old.boot,us.epoch,x,old.epoch,old.offset
              :: else -> wire!release,old.boot,us.epoch,x,old.epoch,0 fi;
           printf("C%d, deposed, says: p%d to W%d.%d, epoch %d\n", c, x, w, old.boot, old.epoch) } }
inline late_lease(c, w) {
  d_step { us.deposed && late > 0 && memory[c].l[w].boot != 0 && !memory[c].l[w].fenced && nfull(wire) -> late--;
           wire!lease,memory[c].l[w].boot,us.epoch,0,memory[c].l[w].producer,0; printf("C%d, deposed, says: lease to W%d.%d\n", c, w, memory[c].l[w].boot) } }

#define rival c_[1-c]
inline depose_rival(c) {
  if :: rival.is == LEADING && !rival.deposed -> remember(memory[1-c], topic); rival.deposed = 1 :: else fi }

inline lead_anew() {                    /* InitProducerId of the coordinators' own id waits for the markers of its former transaction */
  for (j : 0 .. PARTITIONS-1) { if :: by_leader(j) -> shown[j] = committed[j]; marker[j] = 0 :: else fi } }

proctype Coordinator(byte c) {
  do
  /* the name is free, or (a fault) its holder only cut off: InitProducerId, read to the end, leader epoch + 1 */
  :: d_step { us.is != LEADING && (rival.is != LEADING || rival.deposed || may_fail) ->
              if :: rival.is == LEADING && !rival.deposed -> faults-- :: else fi;
              depose_rival(c);
              if :: us.is == HAS_READ -> remember(topic, memory[c]); forget(memory[c]) :: else fi;
              lead_anew();
              leader_epoch++; us.epoch = leader_epoch; us.is = LEADING; printf("C%d leads, leader epoch %d\n", c, leader_epoch) }
  :: d_step { !kept(INIT_FIRST) && us.is == STANDBY && may_fail -> faults--; us.is = HAS_READ; remember(memory[c], topic); printf("C%d has read, and not yet called InitProducerId\n", c) }
  :: d_step { us.is == LEADING && us.deposed -> printf("C%d ends: fenced\n", c); stops(c) }
  :: d_step { !kept(ENDS) && us.is == LEADING && us.deposed && may_fail -> faults--; printf("C%d, deposed, calls InitProducerId again\n", c);
              depose_rival(c); remember(topic, memory[c]); forget(memory[c]); us.deposed = 0 }
  :: d_step { us.is == LEADING && may_fail -> faults--; printf("CRASH: C%d\n", c); stops(c) }
#define LEASES(w) :: fence(c, w) :: wants_lease(c, w) :: other_boot(c, w) :: late_presence(c, w) :: init_producer(c, w) \
                  :: write_fenced(c, w) :: write_lease(c, w) :: say_lease(c, w) :: say_fenced(c, w) :: late_lease(c, w)
#define PARTS(w, x) :: place(c, w, x) :: say_assign(c, w, x) :: ask_release(c, w, x) :: released(c, w, x) \
                    :: take_back(c, w, x) :: say_before_writing(c, w, x) :: late_command(c, w, x)
  LEASES(0) LEASES(1)
  :: move(c, 0) :: rewind(c, 0) :: write_rewound(c, 0) PARTS(0, 0) PARTS(1, 0)
#if PARTITIONS > 1
  :: move(c, 1) :: rewind(c, 1) :: write_rewound(c, 1) PARTS(0, 1) PARTS(1, 1)
#endif
  od }

/* ======== where a run ends ======== */

#define worked_by(x) (record.worker == j && w_[j].up && w_[j].name == record.boot && w_[j].own[x].epoch == record.epoch && epoch_of(j) == producer[j])
inline at_work(x) {
  if :: committed[x] == RECORDS && record.state == ASSIGNED -> skip
     :: else -> printf("VIOLATED at_work: p%d, state %d, committed %d of %d\n", x, record.state, committed[x], RECORDS); assert(false) fi;
  n = 0; for (j : 0 .. WORKERS-1) { if :: worked_by(x) -> n = 1 :: else fi }
  if :: n == 1 -> skip :: else -> printf("VIOLATED at_work: p%d has no live owner with a valid lease\n", x); assert(false) fi }

proctype Judge() {
end:
  timeout -> d_step {
    at_work(0)
#if PARTITIONS > 1
    ; at_work(1)
#endif
  } }

init {
  d_step {
#ifdef COLD                             /* nobody leads, nobody has a lease, all partitions are new */
    for (j : 0 .. PARTITIONS-1) { topic.p[j].worker = NOBODY }
#else                                   /* C0 leads a fleet at work: p0 is W0's, p1 is W1's */
    for (j : 0 .. WORKERS-1) { w_[j].up = 1; w_[j].name = 1; w_[j].producer = 1; w_[j].leader = 1; producer[j] = 1;
                               topic.l[j].boot = 1; topic.l[j].producer = 1 }
    for (j : 0 .. PARTITIONS-1) { topic.p[j].state = ASSIGNED; topic.p[j].worker = j; topic.p[j].boot = 1; topic.p[j].epoch = 1;
                                  handed(j, j, 1); w_[j].own[j].epoch = 1; w_[j].own[j].started = 1 }
    leader_epoch = 1; c_[0].is = LEADING; c_[0].epoch = 1
#endif
  }
  atomic { run Worker(0); run Worker(1); run Kafka(0); run Kafka(1); run Coordinator(0); run Coordinator(1); run Judge() } }
