// SPDX-License-Identifier: GPL-2.0-only
// An intrusive interval tree: nodes ordered by start, equals in insertion order, each knowing the
// largest `last` below it, so that a search skips subtrees which end too early.
//
// It is balanced as a textbook red-black tree, as the kernel's is (lib/rbtree.c with
// include/linux/interval_tree_generic.h): the same insertions and removals give the same shape, and
// a search reads the nodes that the kernel's would.
#pragma once

#include "rmap_models/native/vma.hpp"

namespace rmapreplay {

struct IntervalNode {
    IntervalNode* left;
    IntervalNode* right;
    IntervalNode* parent;
    u64 start;
    u64 last;  // inclusive
    // Largest `last` in the subtree, shifted left by one; the low bit says that the node is black.
    u64 augmented;

    u64 subtree_last() const { return augmented >> 1; }
    bool black() const { return augmented & 1; }
};

// What is the same for every kind of node.
class IntervalTreeBase {
  public:
    bool empty() const { return root_ == nullptr; }
    // Throws BrokenInvariant if order, balance, links or augmentation are not right; returns how
    // many nodes there are.
    std::size_t validate() const;

  protected:
    // `node` must have start and last set, and is in no tree. Bounds stay below 2^63.
    void insert_node(IntervalNode* node) {
        node->left = node->right = nullptr;
        if (!root_) {
            node->parent = nullptr;
            node->augmented = node->last << 1 | 1;
            root_ = node;
            return;
        }
        insert_below_root(node);
    }
    void erase_node(IntervalNode* node) {
        if (!node->left && !node->right && node == root_)
            root_ = nullptr;
        else
            erase_from_many(node);
    }

    // The first node in order that overlaps [first, last], or null. `touched` counts the nodes
    // read, each once in a whole walk of first_overlap() and next_overlap().
    const IntervalNode* first_overlap(u64 first, u64 last, u64& touched) const {
        if (!root_) return nullptr;
        ++touched;
        return root_->subtree_last() < first ? nullptr : leftmost(root_, first, last, touched);
    }
    static const IntervalNode* next_overlap(const IntervalNode* node, u64 first, u64 last,
                                            u64& touched) {
        for (;;) {
            if (const IntervalNode* right = node->right) {
                ++touched;
                if (right->subtree_last() >= first) return leftmost(right, first, last, touched);
            }
            // Up to the nearest ancestor that comes after the node; it was read on the way down.
            const IntervalNode* child;
            do {
                child = node;
                node = node->parent;
                if (!node) return nullptr;
            } while (child == node->right);
            if (node->start > last) return nullptr;
            if (node->last >= first) return node;
        }
    }

  private:
    // The first overlapping node below and including `node`, some of which end at or after `first`.
    static const IntervalNode* leftmost(const IntervalNode* node, u64 first, u64 last,
                                        u64& touched) {
        for (;;) {
            if (const IntervalNode* left = node->left) {
                ++touched;
                if (left->subtree_last() >= first) {
                    // What ends late enough on the left either starts early enough too, or then
                    // nothing to its right does.
                    node = left;
                    continue;
                }
            }
            if (node->start > last) return nullptr;
            if (node->last >= first) return node;
            node = node->right;
            if (!node) return nullptr;
            ++touched;
            if (node->subtree_last() < first) return nullptr;
        }
    }

    void insert_below_root(IntervalNode* node);
    void erase_from_many(IntervalNode* node);
    void replace(IntervalNode* old, IntervalNode* with);
    void rotate(IntervalNode* node, bool to_left);
    void rebalance_after_insert(IntervalNode* node);
    void rebalance_after_erase(IntervalNode* node, IntervalNode* parent);

  protected:
    IntervalNode* root_ = nullptr;
};

// A tree of Node, which derives from IntervalNode.
template <typename Node>
class IntervalTree : public IntervalTreeBase {
  public:
    void insert(Node* node) { insert_node(node); }
    void erase(Node* node) { erase_node(node); }

    Node* first(u64 first, u64 last, u64& touched) const {
        return cast(first_overlap(first, last, touched));
    }
    static Node* next(const Node* node, u64 first, u64 last, u64& touched) {
        return cast(next_overlap(node, first, last, touched));
    }

  private:
    static Node* cast(const IntervalNode* node) {
        return static_cast<Node*>(const_cast<IntervalNode*>(node));
    }
};

}  // namespace rmapreplay
