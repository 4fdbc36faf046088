package geolane.router;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** The running counts that are committed with a partition's offset, whichever engine has committed it. */
record CommittedCounts(Admin admin, String group) {
  private static final long BOUND_S = 10;

  Progress.Counts read(TopicPartition partition) {
    ListConsumerGroupOffsetsSpec spec = new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(partition));
    ListConsumerGroupOffsetsOptions options = new ListConsumerGroupOffsetsOptions().requireStable(true);
    try {
      Map<TopicPartition, OffsetAndMetadata> found = admin.listConsumerGroupOffsets(Map.of(group, spec), options)
          .partitionsToOffsetAndMetadata(group).get(BOUND_S, TimeUnit.SECONDS);
      OffsetAndMetadata at = found.get(partition);
      return at == null ? Progress.Counts.NONE : Progress.Counts.decode(at.metadata());
    } catch (ExecutionException | TimeoutException e) {
      throw new IllegalStateException("the committed offset of " + partition + " is not known: " + e, e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }
}
