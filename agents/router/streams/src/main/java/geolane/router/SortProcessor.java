package geolane.router;

import geolane.router.PyText.Unprintable;
import geolane.router.Sorter.Sorted;
import java.time.Duration;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.ToIntFunction;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;
import org.apache.kafka.streams.state.ValueAndTimestamp;

/** Sorts one partition's records, and asks for a commit when one is due. */
final class SortProcessor implements Processor<byte[], RawValue, byte[], Sorted> {
  static final Duration LOOK = Duration.ofMillis(10);

  private final Config config;
  private final Function<TopicPartition, Progress.Counts> committed;
  private final Supplier<Config.Tuning> tuning;
  private final ToIntFunction<String> batchBytes;
  private ProcessorContext<byte[], Sorted> context;
  private Sorter sorter;

  /** `committed`: the running counts of a partition so far. `batchBytes`: the largest record batch that a topic takes. */
  SortProcessor(
      Config config, Function<TopicPartition, Progress.Counts> committed, Supplier<Config.Tuning> tuning,
      ToIntFunction<String> batchBytes) {
    this.config = config;
    this.committed = committed;
    this.tuning = tuning;
    this.batchBytes = batchBytes;
  }

  @Override
  public void init(ProcessorContext<byte[], Sorted> context) {
    this.context = context;
    int partition = context.taskId().partition();
    ThreadWork.mine().begin(partition, committed.apply(new TopicPartition(config.topics().raw(), partition)));
    context.schedule(LOOK, PunctuationType.WALL_CLOCK_TIME, now -> commitIfDue());
  }

  /** The global table is read to its end before any partition begins. */
  private Sorter makeSorter() {
    ReadOnlyKeyValueStore<String, ValueAndTimestamp<byte[]>> maps = context.getStateStore(Sorting.MAPS);
    ValueAndTimestamp<byte[]> map = maps.get(Integer.toString(config.mapVersion()));
    if (map == null) throw new IllegalStateException("the topic lanemap has no version " + config.mapVersion());
    Sorter.Limits limits =
        new Sorter.Limits(config.maxEventBytes(), config.futureLimitMs(), config.unplacedPartitions(), batchBytes);
    return new Sorter(new LaneMap(map.value()), limits, config.topics(), new Unprintable(config.unprintable()));
  }

  @Override
  public void process(Record<byte[], RawValue> record) {
    if (sorter == null) sorter = makeSorter();
    RecordMetadata at = context.recordMetadata().orElseThrow();
    RawValue raw = record.value();
    Sorted sorted = raw.unread != null
        ? sorter.rejectUnread(at.topic(), at.partition(), at.offset(), raw.ms, raw.unread)
        : sorter.sort(at.topic(), at.partition(), at.offset(), raw.ms, record.key(), raw.bytes, raw.headers);
    Headers headers = new RecordHeaders();
    for (Sorter.Header header : sorted.headers()) headers.add(header.sent());
    context.forward(new Record<>(sorted.key(), sorted, record.timestamp(), headers), sorted.target().name());
    ThreadWork.mine().count(at.partition(), sorted, raw.ms);
    commitIfDue();
  }

  private void commitIfDue() {
    if (ThreadWork.mine().isDue(tuning.get())) context.commit();
  }
}
