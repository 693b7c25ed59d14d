#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: javac builds a generated project of 100 classes, and java runs it in eight threads, with two garbage collectors
# packages: default-jdk-headless
# version: java --version | head -n 1
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need java javac

prepare() {
    local i
    mkdir -p src/shop
    for i in {1..100}; do
        cat >"src/shop/Item$i.java" <<END
package shop;

import java.util.*;
import java.util.stream.*;

public record Item$i(int id, String name, double price) implements Item {
    public static List<Item> many(int n, long seed) {
        Random random = new Random(seed + $i);
        return IntStream.range(0, n)
            .mapToObj(k -> new Item$i(k, "item $i of " + k, random.nextDouble()))
            .sorted(Comparator.comparingDouble(Item$i::price))
            .collect(Collectors.toList());
    }
}
END
    done
    cat >src/shop/Item.java <<END
package shop;

public interface Item {
    int id();
    String name();
    double price();
}
END
    {
        cat <<END
package shop;

import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;

public class Main {
    interface Maker { List<Item> many(int n, long seed); }

    static final List<Maker> MAKERS = List.of(
END
        printf '        Item%d::many,\n' {1..99}
        cat <<END
        Item100::many);

    // Each task keeps some of what it makes, so that old objects die too.
    static double work(long seed) {
        Map<String, Item> kept = new HashMap<>();
        double sum = 0;
        for (Maker maker : MAKERS) {
            for (Item item : maker.many(200, seed)) {
                sum += item.price();
                if (item.id() % 4 == 0) kept.put(item.name() + seed, item);
            }
            if (kept.size() > 5000) kept.clear();
        }
        return sum + kept.size();
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Double>> results = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(args[0]); i++) {
            long seed = i;
            results.add(pool.submit(() -> work(seed)));
        }
        double sum = 0;
        for (Future<Double> result : results) sum += result.get();
        pool.shutdown();
        if (!(sum > 0)) System.exit(1);
        System.out.println(sum);
    }
}
END
    } >src/shop/Main.java
}

java_() { java -Djava.io.tmpdir="$PWD" -XX:-UsePerfData "$@" -cp classes shop.Main 24; }

run() {
    javac -J-XX:-UsePerfData -d classes src/shop/*.java
    java_ -XX:+UseG1GC -Xmx128m
    java_ -XX:+UseSerialGC -Xmx64m
}

workload "$@"
