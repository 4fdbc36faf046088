package geolane.router;

import geolane.router.Progress.Counts;
import geolane.router.Progress.Staged;
import java.util.HashMap;
import java.util.Map;

/** What one stream thread does since its last commit. Processors and producer of a thread share it. */
final class ThreadWork {
  private static final ThreadLocal<ThreadWork> MINE = ThreadLocal.withInitial(ThreadWork::new);

  final Map<Integer, Staged> staged = new HashMap<>();
  private int records;
  private long committedAt = System.nanoTime();

  static ThreadWork mine() {
    return MINE.get();
  }

  /** The partition begins, or begins again, at what is committed. */
  void begin(int partition, Counts committed) {
    Staged part = new Staged();
    part.base = committed;
    staged.put(partition, part);
  }

  Staged of(int partition) {
    return staged.computeIfAbsent(partition, n -> new Staged());
  }

  void count(int partition, Sorter.Sorted sorted, long rawMs) {
    of(partition).count(sorted, rawMs);
    records++;
  }

  /** Whether to commit now: long enough after the last time, or enough records. */
  boolean isDue(Config.Tuning tuning) {
    if (records == 0) return false;
    return records >= tuning.batchRecords() || System.nanoTime() - committedAt >= tuning.commitGapMs() * 1_000_000L;
  }

  void noteCommitted(double tookMs, long nowMs) {
    Progress.add(staged, tookMs, nowMs);
    records = 0;
    committedAt = System.nanoTime();
  }
}
