package geolane.router;

import java.time.Duration;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.streams.internals.ConsumerWrapper;

/** The consumer of Kafka Streams' own group protocol, which asks no client supplier for one but has this hook; a test pins it. */
public final class PatientConsumer extends ConsumerWrapper {
  @Override
  public ConsumerRecords<byte[], byte[]> poll(Duration wait) {
    return Unread.poll(delegate, () -> delegate.poll(wait));
  }
}
