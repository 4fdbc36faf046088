package geolane.router;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaClientSupplier;

/**
 * Kafka's own clients, with three things more: the producer works under the coordinator's lease; committed offsets carry the
 * running counts of their partition, as the Python engine's do; and the brokers' clock is learned.
 */
final class Clients implements KafkaClientSupplier {
  private final Lease lease;
  private final String rawTopic;
  private final AtomicBoolean leased = new AtomicBoolean();
  private final AtomicLong aheadMs = new AtomicLong(); // the brokers' clock, of ours
  private volatile String member = "";

  Clients(Lease lease, String rawTopic) {
    this.lease = lease;
    this.rawTopic = rawTopic;
  }

  /** The id of this process's member of the group; empty until its first commit. */
  String member() {
    return member;
  }

  @Override
  public Producer<byte[], byte[]> getProducer(Map<String, Object> config) {
    // Kafka Streams asks for another one when the first was fenced, or this member expelled.
    if (leased.getAndSet(true)) throw new Lease.Lost();
    Map<String, Object> own = new HashMap<>(config);
    own.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, lease.transactionalId());
    return new CountingProducer(own);
  }

  @Override
  public Admin getAdmin(Map<String, Object> config) {
    return Admin.create(config);
  }

  /** Not used with Kafka Streams' own group protocol. */
  @Override
  public Consumer<byte[], byte[]> getConsumer(Map<String, Object> config) {
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  @Override
  public Consumer<byte[], byte[]> getRestoreConsumer(Map<String, Object> config) {
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  @Override
  public Consumer<byte[], byte[]> getGlobalConsumer(Map<String, Object> config) {
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  private final class CountingProducer extends KafkaProducer<byte[], byte[]> {
    CountingProducer(Map<String, Object> config) {
      super(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    @Override
    public void initTransactions() {
      lease.adopt(this);
    }

    @Override
    public Future<RecordMetadata> send(ProducerRecord<byte[], byte[]> record, Callback callback) {
      return super.send(record, (metadata, error) -> {
        if (error == null && metadata.hasTimestamp()) aheadMs.setPlain(metadata.timestamp() - System.currentTimeMillis());
        if (callback != null) callback.onCompletion(metadata, error);
      });
    }

    @Override
    public void sendOffsetsToTransaction(Map<TopicPartition, OffsetAndMetadata> offsets, ConsumerGroupMetadata group) {
      Map<TopicPartition, OffsetAndMetadata> counted = new HashMap<>();
      offsets.forEach((p, at) -> counted.put(p, !p.topic().equals(rawTopic) ? at
          : new OffsetAndMetadata(at.offset(), at.leaderEpoch(), ThreadWork.mine().of(p.partition()).total().encode())));
      member = group.memberId();
      super.sendOffsetsToTransaction(counted, group);
    }

    @Override
    public void commitTransaction() {
      long began = System.nanoTime();
      super.commitTransaction();
      ThreadWork.mine().noteCommitted((System.nanoTime() - began) / 1e6, System.currentTimeMillis() + aheadMs.getPlain());
    }
  }
}
