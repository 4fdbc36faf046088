package geolane.router;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.internals.TransactionManager;

/**
 * The producer id and epoch that the coordinator has made for this process (PROTOCOL 2.1). The producer starts with exactly
 * these and cannot obtain others: once the coordinator has fenced it, it commits nothing any more.
 *
 * <p>Kafka's producer has no call for it, so this sets what its answer to InitProducerId would have set; a test pins the
 * names. Flink's producer resumes transactions in the same way.
 */
record Lease(String transactionalId, long producerId, short producerEpoch) {

  /** A second producer of this process: the first has lost the lease. */
  static final class Lost extends RuntimeException {
    private static final long serialVersionUID = 1;

    Lost() {
      super("the lease is lost: another producer has this transactional id, or the group has expelled this member");
    }
  }

  void adopt(KafkaProducer<?, ?> producer) {
    try {
      Field field = KafkaProducer.class.getDeclaredField("transactionManager");
      field.setAccessible(true);
      Object manager = field.get(producer);
      synchronized (manager) {
        transition(manager, "INITIALIZING");
        Field ids = TransactionManager.class.getDeclaredField("producerIdAndEpoch");
        ids.setAccessible(true);
        Constructor<?> constructor = ids.getType().getDeclaredConstructor(long.class, short.class);
        constructor.setAccessible(true);
        ids.set(manager, constructor.newInstance(producerId, producerEpoch));
        transition(manager, "READY");
      }
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException("this Kafka client starts its transactions otherwise", e);
    }
  }

  private static void transition(Object manager, String to) throws ReflectiveOperationException {
    Class<?> states = TransactionManager.class.getDeclaredField("currentState").getType();
    for (Object state : states.getEnumConstants()) {
      if (!state.toString().equals(to)) continue;
      Method method = TransactionManager.class.getDeclaredMethod("transitionTo", states);
      method.setAccessible(true);
      method.invoke(manager, state);
      return;
    }
    throw new NoSuchFieldException(to);
  }
}
