package geolane.router;

import geolane.router.Sorter.Sorted;
import geolane.router.Sorter.Target;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.ToIntFunction;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.state.Stores;

/** The topology: events.raw, sorted into lanes, unplaced and dead letters; the lane maps are a global table. */
final class Sorting {
  static final String MAPS = "lane-maps";
  private static final String RAW = "RAW";
  private static final String SORT = "SORT";

  private Sorting() {}

  static Topology topology(
      Config config, Function<TopicPartition, Progress.Counts> committed, Supplier<Config.Tuning> tuning,
      ToIntFunction<String> batchBytes) {
    StreamsBuilder builder = new StreamsBuilder();
    builder.globalTable(
        config.topics().lanemap(),
        Consumed.with(Serdes.String(), Serdes.ByteArray()),
        Materialized.as(Stores.inMemoryKeyValueStore(MAPS)));
    Topology topology = builder.build();
    topology.addSource(
        AutoOffsetReset.earliest(), RAW, RawValue.timestamps(), new ByteArrayDeserializer(), RawValue.deserializer(),
        config.topics().raw());
    topology.addProcessor(SORT, () -> new SortProcessor(config, committed, tuning, batchBytes), RAW);
    // The lane is the partition, and so for the others: the sorter has chosen it.
    StreamPartitioner<byte[], Sorted> chosen = (topic, key, value, count) -> {
      // Kafka's client would wait for such a partition for a minute, and with it all others.
      if (value.partition() >= count) throw new Refused(topic, value.partition(), Errors.UNKNOWN_TOPIC_OR_PARTITION);
      return Optional.of(Set.of(value.partition()));
    };
    Serializer<Sorted> values = (topic, sorted) -> sorted.value();
    addSink(topology, Target.LANES, config.topics().lanes(), values, chosen);
    addSink(topology, Target.UNPLACED, config.topics().unplaced(), values, chosen);
    addSink(topology, Target.DEAD, config.topics().dead(), values, chosen);
    return topology;
  }

  private static void addSink(
      Topology topology, Target target, String topic, Serializer<Sorted> values, StreamPartitioner<byte[], Sorted> chosen) {
    topology.addSink(target.name(), topic, new ByteArraySerializer(), values, chosen, SORT);
  }
}
