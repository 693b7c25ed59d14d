// SPDX-License-Identifier: GPL-2.0-only
// Red-black insertion and removal for trees of more than one node.
#include "rmap_models/native/interval_tree.hpp"

#include <algorithm>
#include <string>

#include "rmap_models/native/invariant.hpp"

namespace rmapreplay {

namespace {

void set_subtree_last(IntervalNode* node, u64 last) {
    node->augmented = last << 1 | (node->augmented & 1);
}
void set_black(IntervalNode* node) { node->augmented |= 1; }
void set_red(IntervalNode* node) { node->augmented &= ~u64{1}; }
void copy_color(IntervalNode* node, const IntervalNode* from) {
    node->augmented = (node->augmented & ~u64{1}) | (from->augmented & 1);
}
bool is_red(const IntervalNode* node) { return node && !node->black(); }

u64 computed_last(const IntervalNode* node) {
    u64 last = node->last;
    if (node->left) last = std::max(last, node->left->subtree_last());
    if (node->right) last = std::max(last, node->right->subtree_last());
    return last;
}

}  // namespace

// Puts the subtree `with` (or nothing) in the place of `old`, below old's parent.
void IntervalTreeBase::replace(IntervalNode* old, IntervalNode* with) {
    if (!old->parent)
        root_ = with;
    else if (old->parent->left == old)
        old->parent->left = with;
    else
        old->parent->right = with;
    if (with) with->parent = old->parent;
}

void IntervalTreeBase::rotate(IntervalNode* node, bool to_left) {
    IntervalNode* up = to_left ? node->right : node->left;
    IntervalNode*& inner = to_left ? up->left : up->right;
    (to_left ? node->right : node->left) = inner;
    if (inner) inner->parent = node;
    replace(node, up);
    inner = node;
    node->parent = up;
    set_subtree_last(up, node->subtree_last());  // the same nodes are below
    set_subtree_last(node, computed_last(node));
}

void IntervalTreeBase::insert_below_root(IntervalNode* node) {
    const u64 start = node->start, last = node->last;
    IntervalNode* parent = root_;
    for (;;) {
        if (parent->subtree_last() < last) set_subtree_last(parent, last);
        // An equal start goes to the right, behind its elders.
        IntervalNode*& below = start < parent->start ? parent->left : parent->right;
        if (!below) {
            below = node;
            break;
        }
        parent = below;
    }
    node->parent = parent;
    node->augmented = last << 1;
    if (!parent->black()) rebalance_after_insert(node);
}

// `node` and its parent are red.
void IntervalTreeBase::rebalance_after_insert(IntervalNode* node) {
    for (;;) {
        IntervalNode* parent = node->parent;
        if (!parent) {
            set_black(node);
            return;
        }
        if (parent->black()) return;
        IntervalNode* grandparent = parent->parent;  // exists: a root is black
        const bool on_left = parent == grandparent->left;
        IntervalNode* uncle = on_left ? grandparent->right : grandparent->left;
        if (is_red(uncle)) {
            set_black(parent);
            set_black(uncle);
            set_red(grandparent);
            node = grandparent;
            continue;
        }
        if (node == (on_left ? parent->right : parent->left)) {
            rotate(parent, on_left);
            parent = node;
        }
        set_black(parent);
        set_red(grandparent);
        rotate(grandparent, !on_left);
        return;
    }
}

void IntervalTreeBase::erase_from_many(IntervalNode* node) {
    IntervalNode* child;   // what moves up into the gap
    IntervalNode* parent;  // above the gap
    bool gap_was_black;
    IntervalNode* stand_in = nullptr;  // takes the place of a node with two children
    if (node->left && node->right) {
        stand_in = node->right;
        while (stand_in->left) stand_in = stand_in->left;
        gap_was_black = stand_in->black();
        child = stand_in->right;
        parent = stand_in->parent;
        if (parent == node) {
            parent = stand_in;
        } else {
            replace(stand_in, child);
            stand_in->right = node->right;
            stand_in->right->parent = stand_in;
        }
        replace(node, stand_in);
        stand_in->left = node->left;
        stand_in->left->parent = stand_in;
        copy_color(stand_in, node);
    } else {
        child = node->left ? node->left : node->right;
        parent = node->parent;
        gap_was_black = node->black();
        replace(node, child);
    }
    // Up from the gap until nothing changes, but not before the stand-in, which has moved.
    for (IntervalNode* at = parent; at; at = at->parent) {
        const u64 last = computed_last(at);
        if (last == at->subtree_last() && !stand_in) break;
        set_subtree_last(at, last);
        if (at == stand_in) stand_in = nullptr;
    }
    if (gap_was_black) rebalance_after_erase(child, parent);
}

// The paths through `node` (perhaps null, below `parent`) are short of one black node.
void IntervalTreeBase::rebalance_after_erase(IntervalNode* node, IntervalNode* parent) {
    while (parent && !is_red(node)) {
        const bool on_left = node == parent->left;
        IntervalNode* sibling = on_left ? parent->right : parent->left;
        if (!sibling->black()) {
            set_black(sibling);
            set_red(parent);
            rotate(parent, on_left);
            sibling = on_left ? parent->right : parent->left;
        }
        IntervalNode* near = on_left ? sibling->left : sibling->right;
        IntervalNode* far = on_left ? sibling->right : sibling->left;
        if (!is_red(near) && !is_red(far)) {
            set_red(sibling);
            node = parent;
            parent = node->parent;
            continue;
        }
        if (!is_red(far)) {
            set_black(near);
            set_red(sibling);
            rotate(sibling, !on_left);
            far = sibling;
            sibling = near;
        }
        copy_color(sibling, parent);
        set_black(parent);
        set_black(far);
        rotate(parent, on_left);
        return;
    }
    if (node) set_black(node);
}

namespace {

struct Checked {
    std::size_t nodes = 0;
    unsigned black_height = 0;
    u64 last = 0;
};

Checked check(const IntervalNode* node, const IntervalNode* parent, u64 low, u64 high) {
    if (!node) return {};
    const auto demand = [](bool ok, const char* what) {
        if (!ok) throw BrokenInvariant(std::string("interval tree: ") + what);
    };
    demand(node->parent == parent, "a node does not know its parent");
    demand(low <= node->start && node->start <= high, "a node is out of order");
    demand(node->black() || !is_red(parent), "a red node has a red parent");
    const Checked left = check(node->left, node, low, node->start);
    const Checked right = check(node->right, node, node->start, high);
    demand(left.black_height == right.black_height, "unbalanced");
    const u64 last = std::max({node->last, left.last, right.last});
    demand(node->subtree_last() == last, "a node does not know where its subtree ends");
    return {left.nodes + right.nodes + 1, left.black_height + node->black(), last};
}

}  // namespace

std::size_t IntervalTreeBase::validate() const {
    if (is_red(root_)) throw BrokenInvariant("interval tree: the root is red");
    return check(root_, nullptr, 0, ~u64{0}).nodes;
}

}  // namespace rmapreplay
